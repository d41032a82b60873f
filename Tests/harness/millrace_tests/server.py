"""Server: starts the real program on a data directory, waits for its ready line, stops or kills it."""

import contextlib
import os
import random
import re
import selectors
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("MILLRACE_BINARY", ROOT / ".build" / "release" / "millrace"))
READY = re.compile(r"^millrace ready(?P<listeners>(?: [a-z+]+=\S+:\d+)+) pid=(?P<pid>\d+)$")


def lasting_port():
    """A free port that no outgoing connection of this system is given, so that it is still free after each kill.

    Clients that reconnect all the time would sooner or later be given the port of the server that is down.
    """
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(min(16384, first_outgoing // 2), first_outgoing)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class ServerFailed(Exception):
    """The program did not do what its command line promises; the message ends with the tail of its log."""


def environment():
    """The caller's environment, without the backtracer, which would hold a crashed server's port for minutes."""
    return {**os.environ, "SWIFT_BACKTRACE": "enable=no"}


class Server:
    """One data directory and at most one running program on it.

    The ports are chosen by the system at the first start and kept for the later ones, as clients expect.
    """

    def __init__(self, directory, command="serve", arguments=(), binary=None, port=0,
                 data="data", amqp=False, amqp_port=0, http=False, listeners=None):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.data = self.directory / data
        self.log = self.directory / "server.log"
        self.command = command
        self.arguments = [str(one) for one in arguments]
        self.binary = str(binary or BINARY)
        self.port = port
        self.host = None
        self.amqp_port = amqp_port if amqp else None  # None: the program is not told to speak AMQP
        self.amqp_host = None
        self.listeners = listeners  # URLs of --listener in place of the usual ones; ports of 0 are kept once they are known
        self.addresses = {}  # of each listener's scheme, the first one's host and port
        self.http_port = 0 if http else None  # None: the program is not told to speak HTTP
        self.http_host = None
        self.process = None
        self._launched = None
        self.output = []
        self.ready_after_seconds = None

    @property
    def bootstrap(self):
        return f"{self.host}:{self.port}"

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def command_line(self):
        usual = ["--kafka", str(self.port), *self._amqp(), *self._http()]
        if self.listeners is not None:
            usual = [word for url in self.listeners for word in ("--listener", url)]
        return [self.binary, self.command, "--data", str(self.data), *usual, *self.arguments]

    def _amqp(self):
        """`serve` listens for AMQP unless it is told not to; other commands never do."""
        if self.amqp_port is not None:
            return ["--amqp", str(self.amqp_port)]
        return ["--no-amqp"] if self.command == "serve" else []

    def _http(self):
        if self.http_port is None:
            return []
        # Other commands than `serve` have no option for it.
        return ["--http", str(self.http_port)] if self.command == "serve" else ["--set", f"http={self.http_port}"]

    def start(self, timeout_seconds=30):
        """Starts the program and returns once it printed its ready line."""
        return self.launch().await_ready(timeout_seconds)

    def launch(self):
        """Starts the program and returns at once."""
        if not Path(self.binary).exists():
            raise ServerFailed(f"{self.binary} is not there; `make build` makes it")
        with open(self.log, "ab") as log:
            log.write(f"--- {' '.join(self.command_line())}\n".encode())
            log.flush()
            self._launched = time.monotonic()
            self.process = subprocess.Popen(
                self.command_line(), stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, env=environment())
        return self

    def await_ready(self, timeout_seconds=30):
        """Returns once the launched program printed its ready line."""
        line = self._first_line(self._launched + timeout_seconds)
        self.ready_after_seconds = time.monotonic() - self._launched
        match = READY.match(line)
        if not match:
            self.kill()
            raise ServerFailed(f"expected the ready line, got {line!r}{self.log_tail()}")
        self._take(match, line)
        os.set_blocking(self.process.stdout.fileno(), False)
        return self

    def _take(self, match, line):
        """What the ready line says."""
        found = [word.partition("=")[::2] for word in match["listeners"].split()]
        self.addresses = {}
        for scheme, address in found:
            host, _, port = address.rpartition(":")
            self.addresses.setdefault(scheme, (host.strip("[]"), int(port)))
        if self.listeners is not None:
            # Each in the order in which it was asked for.
            self.listeners = [
                re.sub(r"^([a-z+]+://.*?):0(?=\?|$)", lambda url: f"{url[1]}:{address.rpartition(':')[2]}", url)
                for url, (_, address) in zip(self.listeners, found, strict=True)]
        elif ("amqp" in self.addresses) != (self.amqp_port is not None):
            self.kill()
            raise ServerFailed(f"told {self.command_line()}, it is ready with {line!r}")
        elif ("http" in self.addresses) != (self.http_port is not None):
            self.kill()
            raise ServerFailed(f"told {self.command_line()}, it is ready with {line!r}")
        self.http_host, http_port = self.addresses.get("http") or self.addresses.get("https") or (None, None)
        self.http_port = http_port if http_port is not None else self.http_port
        self.host, self.port = self.addresses.get("kafka") or self.addresses.get("kafka+tls") or (None, self.port)
        self.amqp_host, amqp_port = self.addresses.get("amqp") or self.addresses.get("amqps") or (None, None)
        self.amqp_port = amqp_port if amqp_port is not None else self.amqp_port
        if int(match["pid"]) != self.process.pid:
            raise ServerFailed(f"the ready line names pid {match['pid']}, the process is {self.process.pid}")

    def _first_line(self, deadline):
        """The first line on standard output, or what there was of it when the program ended or time was up."""
        received = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in received:
                if not selector.select(max(0, deadline - time.monotonic())):
                    self.kill()
                    raise ServerFailed(f"no ready line in time, only {received!r}{self.log_tail()}")
                part = os.read(self.process.stdout.fileno(), 4096)
                if not part:
                    code = self.process.wait()
                    raise ServerFailed(f"ended with {code} before its ready line, having said {received!r}"
                                       f"{self.log_tail()}")
                received += part
        line, _, rest = received.partition(b"\n")
        self.output = [rest] if rest else []
        return line.decode()

    def drain_output(self):
        """Everything on standard output since the ready line."""
        while self.process is not None:
            try:
                part = os.read(self.process.stdout.fileno(), 65536)
            except BlockingIOError:
                break
            if not part:
                break
            self.output.append(part)
        return b"".join(self.output).decode(errors="replace")

    def stop(self, timeout_seconds=20):
        """Stops cleanly (SIGTERM) and returns the exit code, which must be 0."""
        if self.process is None:
            return None
        self.process.send_signal(signal.SIGTERM)
        code = self._wait(timeout_seconds)
        if code != 0:
            raise ServerFailed(f"SIGTERM ended it with {code}{self.log_tail()}")
        return code

    def _wait(self, timeout_seconds):
        deadline = time.monotonic() + timeout_seconds
        while self.process.poll() is None:
            self.drain_output()  # a full pipe would keep it from ending
            if time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(f"did not stop within {timeout_seconds} s{self.log_tail()}")
            time.sleep(0.005)
        code = self.process.returncode
        self.drain_output()
        self.process.stdout.close()
        self.process = None
        return code

    def kill(self):
        """kill -9. Does nothing when it does not run."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process = None

    def close(self):
        """Ends whatever runs, for use in `finally`."""
        self.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def cpu_seconds(self):
        """User and system time of the process so far, from /proc."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        """Resident memory now, from /proc."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self, lines=20):
        tail = self.log_text().splitlines()[-lines:]
        return "\n".join(["", f"{self.log} ends with:", *tail])


def run(*arguments, stdin=None, timeout_seconds=60, binary=None):
    """Runs the program to its end; standard output and error come back as text."""
    return subprocess.run(
        [str(binary or BINARY), *map(str, arguments)], input=stdin, capture_output=True, text=True,
        timeout=timeout_seconds, env=environment())
