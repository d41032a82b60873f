"""Where RabbitMQ 3.10, RabbitMQ 4 and Millrace differ: said at the test that shows it, and listed in docs/reference/amqp.md."""

DIFFERENCES = []


def differs(what, three, four, millrace):
    """Marks a test whose expectation depends on the server. The texts make one row of the table in the document."""
    row = (what, three, four, millrace)

    def mark(test):
        DIFFERENCES.append(row)
        test.differs = row
        return test

    return mark


ERLANG = differs("what is wrong with an argument, at the end of a 406 text", "an Erlang term", "an Erlang term",
                 "the same beginning, then words")


def markdown_rows():
    return sorted({"| " + " | ".join(one.replace("|", "\\|") for one in row) + " |" for row in DIFFERENCES})
