"""docs/reference/amqp.md lists exactly the differences that the tests show."""

import importlib
from pathlib import Path

from millrace_tests.differences import markdown_rows
from millrace_tests.server import ROOT


def test_the_page_lists_the_differences_that_the_tests_mark():
    for file in sorted(Path(__file__).parent.glob("test_amqp_*.py")):
        importlib.import_module(file.stem)
    page = (ROOT / "docs" / "reference" / "amqp.md").read_text()
    table = page.partition("| What | RabbitMQ 3.10 | RabbitMQ 4 | Millrace |\n|---|---|---|---|\n")[2].partition("\n\n")[0]
    assert sorted(table.splitlines()) == markdown_rows()
