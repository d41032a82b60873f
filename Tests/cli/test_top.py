"""`millrace top`: on a terminal that this test plays, and as plain text."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pika
import pytest
from millrace_tests.server import BINARY, environment, run


class Screen:
    """A program on a terminal: what it writes, and a screen that understands the sequences that it uses."""

    def __init__(self, *arguments, rows=24, columns=80):
        self.master, slave = pty.openpty()
        self.resize(rows, columns, tell=False)
        self.before = termios.tcgetattr(slave)
        self.slave = slave  # kept open, so that its settings can be looked at
        self.process = subprocess.Popen(
            [str(BINARY), *arguments], stdin=slave, stdout=slave, stderr=subprocess.PIPE, env=environment(),
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.output = b""

    def resize(self, rows, columns, tell=True):
        self.rows, self.columns = rows, columns
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds=0.1):
        while select.select([self.master], [], [], seconds)[0]:
            part = os.read(self.master, 65536)
            if not part:
                return
            self.output += part
            seconds = 0

    @property
    def frames(self):
        """The screens that were drawn whole, as lists of lines."""
        drawn = self.output.decode(errors="replace").split("\x1b[H")[1:]
        return [re.sub(r"\x1b\[K|\r", "", one.split("\x1b[J")[0]).split("\n") for one in drawn if "\x1b[J" in one]

    def wait(self, condition, seconds=30):
        """Returns the first frame from now on that fits."""
        seen = len(self.frames)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.read()
            for frame in self.frames[max(0, seen - 1):]:
                if condition("\n".join(frame)):
                    return frame
            seen = len(self.frames)
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.process.stderr.read()}"
        raise AssertionError(f"not shown, last: {self.frames[-1:]}")

    def end(self, seconds=20):
        code = self.process.wait(seconds)
        self.read(0.2)
        return code

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def screen():
    made = []

    def make(*arguments, **size):
        made.append(Screen(*arguments, **size))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def amqp_server(make_server):
    return make_server(amqp=True).start()


@pytest.fixture
def channel(amqp_server):
    connection = pika.BlockingConnection(pika.ConnectionParameters(amqp_server.amqp_host, amqp_server.amqp_port))
    yield connection.channel()
    with contextlib.suppress(pika.exceptions.AMQPError):
        connection.close()


@pytest.mark.parametrize("way", ["q", "Q", "ctrl-c", "SIGTERM"])
def test_it_ends_and_puts_the_terminal_back(amqp_server, screen, way):
    shown = screen("top", "--bootstrap", amqp_server.bootstrap)
    shown.wait(lambda text: "no queues" in text)
    assert shown.output.startswith(b"\x1b[?1049h\x1b[?25l")
    during = termios.tcgetattr(shown.slave)
    assert not during[3] & (termios.ICANON | termios.ECHO)
    if way == "SIGTERM":
        shown.process.send_signal(signal.SIGTERM)
    else:
        os.write(shown.master, {"q": b"q", "Q": b"Q", "ctrl-c": b"\x03"}[way])
    assert shown.end() == 0
    assert shown.output.endswith(b"\x1b[?25h\x1b[?1049l")
    assert termios.tcgetattr(shown.slave) == shown.before


def test_figures_of_queues_and_groups_move(amqp_server, screen, channel):
    shown = screen("top", "--interval", "0.2", "--bootstrap", amqp_server.bootstrap, columns=200, rows=30)
    channel.queue_declare("work", durable=True)
    channel.confirm_delivery()
    for number in range(7):
        channel.basic_publish("", "work", b"%d" % number)
    shown.wait(lambda text: re.search(r"^work +7 +0 +\d", text, re.MULTILINE))
    deliveries = [channel.basic_get("work") for _ in range(3)]
    shown.wait(lambda text: re.search(r"^work +4 +3 +\d", text, re.MULTILINE))
    channel.basic_ack(deliveries[-1][0].delivery_tag, multiple=True)
    frame = shown.wait(lambda text: re.search(r"^work +4 +0 +\d", text, re.MULTILINE))
    title = next(line for line in frame if line.startswith("queue"))
    for column in ("length", "unacked", "oldest", "in/s", "out/s", "busy", "wait", "process", "transfer", "λW", "need"):
        assert column in title
    address = ["--bootstrap", amqp_server.bootstrap]
    run("topic", "create", "t", "--partitions", "1", *address)
    run("produce", "t", *address, stdin="a\nb\nc\n")
    run("consume", "t", "--group", "readers", "--from", "earliest", "--max", "1", *address)
    shown.wait(lambda text: re.search(r"^readers +t +Empty +0 +2 ", text, re.MULTILINE))


def test_no_line_is_longer_and_none_more_than_the_screen(amqp_server, screen, channel):
    for number in range(40):
        channel.queue_declare(f"queue-with-a-rather-long-name-{number:02}")
    channel.queue_declare("漢字" * 30)
    channel.basic_publish("", "漢字" * 30, b"x")  # the longest queue, so that it comes first
    shown = screen("top", "--interval", "0.2", "--bootstrap", amqp_server.bootstrap, columns=60, rows=12)

    def fits(text):
        return "more" in text

    def wide(line):
        return sum(2 if "\u2e80" <= character <= "\uffe6" else 1 for character in line)

    for columns, rows in ((60, 12), (31, 9), (10, 4), (3, 2), (250, 60)):
        shown.resize(rows, columns)
        # Drawn anew for the size, and for what came after it.
        for _ in range(2):
            count = len(shown.frames)
            deadline = time.monotonic() + 20
            while len(shown.frames) <= count:
                assert time.monotonic() < deadline
                shown.read()
        frame = shown.frames[-1]
        assert len(frame) <= rows and all(wide(line) <= columns for line in frame), (columns, rows, frame)
        if columns == 60:
            assert fits("\n".join(frame)) and "queue-with-a-rather…" in "\n".join(frame)
    assert "need" in "\n".join(shown.frames[-1]) and "queue-with-a-rather-long-name-39" in "\n".join(shown.frames[-1])


def test_a_server_that_goes_away_is_tried_again(amqp_server, screen):
    shown = screen("top", "--interval", "0.2", "--bootstrap", amqp_server.bootstrap, columns=150)
    shown.wait(lambda text: "no queues" in text)
    amqp_server.kill()
    shown.wait(lambda text: "server away, trying again" in text)
    amqp_server.start()
    shown.wait(lambda text: "no queues" in text and "away" not in text)
    os.write(shown.master, b"q")
    assert shown.end() == 0


def test_it_begins_without_a_server(screen, make_server):
    server = make_server(port=0)
    server.start()
    bootstrap = server.bootstrap
    server.kill()
    shown = screen("top", "--interval", "0.2", "--bootstrap", bootstrap, columns=150)
    shown.wait(lambda text: "server away" in text)
    server.start()
    shown.wait(lambda text: "no queues" in text)


def test_once_is_plain_text(amqp_server, channel):
    for name, count in (("a", 1), ("b", 3), ("c", 0)):
        channel.queue_declare(name)
        for _ in range(count):
            channel.basic_publish("", name, b"x")

    def names(*arguments):
        done = run("top", "--once", "--bootstrap", amqp_server.bootstrap, *arguments)
        assert done.returncode == 0 and "\x1b" not in done.stdout and done.stderr == ""
        return re.findall(r"^([abc])  ", done.stdout, re.MULTILINE)

    deadline = time.monotonic() + 20
    while names() != ["b", "a", "c"]:
        assert time.monotonic() < deadline
    assert names("--sort", "name") == ["a", "b", "c"]
    assert names("--sort", "oldest")[-1] == "c"


def test_without_a_terminal_it_goes_on_as_text_until_nobody_reads(amqp_server):
    process = subprocess.Popen([str(BINARY), "top", "--interval", "0.1", "--bootstrap", amqp_server.bootstrap],
                               stdout=subprocess.PIPE, env=environment())
    shown = b""
    while shown.count(b"no queues") < 3:
        part = process.stdout.read1()
        assert part
        shown += part
    assert b"\x1b" not in shown
    process.stdout.close()
    assert process.wait(20) == 0
    process = subprocess.Popen([str(BINARY), "top", "--interval", "60", "--bootstrap", amqp_server.bootstrap],
                               stdout=subprocess.PIPE, env=environment())
    assert process.stdout.readline().startswith(b"millrace at ")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    process.stdout.close()
