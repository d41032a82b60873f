"""The demo as a person sees it: the live table on a terminal, the commands to join in, Ctrl-C."""

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time

from millrace_tests.server import BINARY, environment


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, *arguments):
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.execve(BINARY, [str(BINARY), *map(str, arguments)], environment())
        self.seen = ""

    def until(self, pattern, timeout_seconds=20):
        """What was shown once it matches; fails when time is up."""
        deadline = time.monotonic() + timeout_seconds
        while not re.search(pattern, self.seen, re.S):
            assert time.monotonic() < deadline, f"{pattern!r} was not shown:\n{self.seen}"
            if select.select([self.descriptor], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.descriptor, 65536).decode(errors="replace")
                except OSError:  # the program has ended
                    break
        return re.search(pattern, self.seen, re.S)

    def type(self, text):
        os.write(self.descriptor, text.encode())

    def end(self, timeout_seconds=20):
        """The exit code; kills a program that does not end."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if select.select([self.descriptor], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.descriptor, 65536).decode(errors="replace")
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.descriptor)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"it did not end:\n{self.seen}")


def test_a_terminal_shows_a_table_that_is_drawn_over_itself_and_ctrl_c_ends_it(tmp_path):
    text = tmp_path / "input.txt"
    text.write_text("the wheel and the stone and the miller\n" * 500)
    terminal = Terminal("demo", "--data", tmp_path / "data", "--kafka", "0", "--input", text)
    terminal.until(r"millrace ready kafka=\S+ pid=\d+")
    terminal.until(r"lines/s, out [\d,]+ counts/s, lag [\d,]+, commit p50 [\d.]+ ms, p99 [\d.]+ ms")
    terminal.until(r"5 words, of them the most frequent:\s+1,500  the\s+1,000  and\s+500  \w+")
    # The next table goes over the last one.
    terminal.until("\x1b\\[\\d+A\x1b\\[J")
    terminal.type("\x03")
    assert terminal.end() == 0


def test_elsewhere_it_writes_plain_lines(tmp_path, make_server):
    text = tmp_path / "input.txt"
    text.write_text("the wheel and the stone\n")
    demo = make_server(command="demo", arguments=["--input", text]).start()
    deadline = time.monotonic() + 20
    while "top: the 2" not in demo.drain_output() and time.monotonic() < deadline:
        time.sleep(0.1)
    said = demo.drain_output()
    assert re.search(r"in [\d,]+ lines/s, out [\d,]+ counts/s, lag \d+, commit p50 [\d.]+ ms, p99 [\d.]+ ms; top: the 2", said)
    assert "\x1b" not in said


def test_the_commands_to_join_in_do_what_they_say(tmp_path, make_server):
    text = tmp_path / "input.txt"
    text.write_text("hello hello\n")
    demo = make_server(command="demo", arguments=["--input", text]).start()
    deadline = time.monotonic() + 20
    while "KafkaConsumer" not in demo.drain_output() and time.monotonic() < deadline:
        time.sleep(0.05)
    lines = [line.strip() for line in demo.drain_output().splitlines()]
    read, write = [line for line in lines if "kcat" in line]
    begin = next(index for index, line in enumerate(lines) if line.startswith("python3 -c"))
    program = "\n".join(lines[begin:begin + 2])

    python = subprocess.Popen([sys.executable, "-u", *shlex.split(program)[1:]], stdout=subprocess.PIPE, text=True)
    try:
        # It reads what comes after it has started, so words go in until one comes out.
        shown, deadline = "", time.monotonic() + 40
        while "yours" not in shown and time.monotonic() < deadline:
            assert subprocess.run(write, shell=True, timeout=20).returncode == 0
            if select.select([python.stdout], [], [], 0.3)[0]:
                shown += python.stdout.readline()
        assert re.search(r"^(some|words|of|yours) \d+$", shown, re.M), shown
    finally:
        python.kill()
        python.wait()
        python.stdout.close()
    done = subprocess.run(f"{read} -e -q", shell=True, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and "hello 2" in done.stdout.splitlines()
    assert any(re.fullmatch(r"yours \d+", line) for line in done.stdout.splitlines())
