"""What the AMQP tests run against: Millrace, or RabbitMQ 3.10 as the reference that proves the tests."""

from .rabbitmq import RabbitMQ
from .server import Server, run


def millrace_speaks_amqp():
    """Whether the program's own help names the option; a program that does not know it cannot be tested."""
    return "--amqp" in run("serve", "--help").stdout


class Backend:
    """`host` and `port` speak AMQP. What the harness can set up beside that is said by the flags."""

    name = None
    is_millrace = False
    has_users = False  # a user `limited`, who may only touch what is called limited.…, and a vhost `other`
    has_consistent_hash = True
    has_delayed_message = False

    def either(self, three, millrace):
        """What RabbitMQ 3.10 does, or what Millrace does where it follows RabbitMQ 4 or goes its own way."""
        return millrace if self.is_millrace else three

    @property
    def uri(self):
        return f"amqp://guest:guest@{self.host}:{self.port}/%2f"


class MillraceBackend(Backend):
    name = "millrace"
    is_millrace = True
    has_delayed_message = True

    def __init__(self, directory):
        self.server = Server(directory, amqp=True)

    def start(self):
        self.server.start()
        self.host, self.port = self.server.amqp_host, self.server.amqp_port
        return self

    @property
    def running(self):
        return self.server.running

    @property
    def log(self):
        return self.server.log

    def log_tail(self, lines):
        return self.server.log_tail(lines)

    def restart(self):
        """A clean stop and a start on the same data and port."""
        self.server.stop()
        return self.start()

    def close(self):
        try:
            if self.server.running:
                self.server.stop()
        finally:
            self.server.close()


class RabbitMQBackend(Backend):
    name = "rabbitmq"
    has_users = True

    def __init__(self, directory):
        self.server = RabbitMQ(directory)
        self.host, self.port = self.server.host, self.server.port

    def start(self):
        self.server.start()
        return self

    @property
    def running(self):
        return self.server.running

    @property
    def log(self):
        return self.server.log

    def log_tail(self, lines):
        return self.server.log_tail(lines)

    def restart(self):
        self.server.close()
        return self.start()

    def close(self):
        self.server.close()


BACKENDS = {one.name: one for one in (MillraceBackend, RabbitMQBackend)}
