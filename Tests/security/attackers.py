"""Attackers: thousands of sockets at once from many addresses of this machine, and what honest clients notice of them."""

import base64
import multiprocessing
import selectors
import socket
import statistics
import struct
import threading
import time
from contextlib import contextmanager

from millrace_tests import wire


def addresses(count):
    """Addresses of this machine, so that limits of one address do not hide what is looked for."""
    return [f"127.{10 + i // 250 % 200}.{i // 50000}.{1 + i % 250}" for i in range(count)]


def frame(api, version, body, flexible=False):
    header = struct.pack(">hhi", api, version, 1) + wire.string("attacker") + (b"\0" if flexible else b"")
    return struct.pack(">i", len(header) + len(body)) + header + body


def connect(address, source):
    """A socket on its way to be connected."""
    one = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    one.setblocking(False)
    one.bind((source, 0))
    one.connect_ex(address)
    return one


class HalfOpen:
    """Connections that say nothing, or the beginning of something; those that the server closes are made anew, so many in a second.

    They are another process's: what honest clients notice is the server's doing, and not that of Python's lock.
    """

    def __init__(self, targets, count, per_second=4000):
        """`targets`: pairs of an address and the bytes that are sent to it."""
        self.targets, self.count, self.per_second = targets, count, per_second
        context = multiprocessing.get_context("fork")
        self._made, self._closed = context.Value("q", 0), context.Value("q", 0)
        self._stop, self._full = context.Event(), context.Event()
        self._process = context.Process(target=self._run, daemon=True)

    @property
    def made(self):
        return self._made.value

    @property
    def closed(self):
        return self._closed.value

    def _run(self):
        sources = addresses(1000)
        sockets = set()
        selector = selectors.DefaultSelector()
        began = time.monotonic()
        made = closed = 0
        while not self._stop.is_set():
            due = int((time.monotonic() - began) * self.per_second) - made
            # A hundred at a time: more than that is more than the queue of a listener holds.
            for _ in range(max(0, min(100, due, self.count - len(sockets)))):
                address, greeting = self.targets[made % len(self.targets)]
                one = connect(address, sources[made % len(sources)])
                made += 1
                sockets.add(one)
                selector.register(one, selectors.EVENT_WRITE, greeting)
            for key, events in selector.select(0.01):
                try:
                    if events & selectors.EVENT_WRITE:
                        key.fileobj.send(key.data)
                        selector.modify(key.fileobj, selectors.EVENT_READ)
                    elif not key.fileobj.recv(4096):
                        raise ConnectionResetError
                except BlockingIOError:
                    continue
                except OSError:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    sockets.discard(key.fileobj)
                    closed += 1
            self._made.value, self._closed.value = made, closed
            if made >= self.count:
                self._full.set()

    def __enter__(self):
        self._process.start()
        assert self._full.wait(120)
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()
            raise AssertionError("the attacker did not end")


def apart(function, *arguments):
    """Calls a function in a process of its own, and returns what it returns."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=lambda: theirs.send(function(*arguments)), daemon=True)
    process.start()
    theirs.close()
    try:
        assert ours.poll(250), "the attacker did not end"
        return ours.recv()
    finally:
        process.kill()
        process.join()


def flood(address, count, message, at_once=200, waits=False):
    """So many connections that each send a message; unless it waits for an answer, each is closed half a second later at the latest."""
    sources = addresses(1000)
    selector = selectors.DefaultSelector()
    made = done = answered = 0
    born = {}
    while done < count:
        while made < count and len(born) < at_once:
            one = connect(address, sources[made % len(sources)])
            selector.register(one, selectors.EVENT_WRITE, message(made))
            born[one] = time.monotonic()
            made += 1
        for key, events in selector.select(0.01):
            one = key.fileobj
            try:
                if events & selectors.EVENT_WRITE:
                    one.send(key.data)
                    selector.modify(one, selectors.EVENT_READ)
                    continue
                got = one.recv(4096)
                answered += bool(got)
                if got and waits:
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            selector.unregister(one)
            one.close()
            del born[one]
            done += 1
        if not waits:
            now = time.monotonic()
            for one in [one for one, at in born.items() if now - at > 0.5]:
                selector.unregister(one)
                one.close()
                del born[one]
                done += 1
    selector.close()
    return answered


class Honest:
    """A client that goes on asking, and how long each answer took."""

    def __init__(self, ask):
        self._ask = ask
        self.times = []
        self.error = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            while not self._stop.is_set():
                began = time.monotonic()
                self._ask()
                self.times.append(time.monotonic() - began)
                self._stop.wait(0.002)
        except BaseException as error:  # handed to whoever waits
            self.error = error

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "an honest client waits for ever"
        if self.error is not None and kind is None:
            raise self.error

    def quantiles(self):
        """Median and 99th percentile so far, in milliseconds; forgets what it was made of."""
        times, self.times = sorted(self.times), []
        return statistics.median(times) * 1000, times[min(len(times) - 1, len(times) * 99 // 100)] * 1000


def basic(name, password):
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def metrics(connection, authorization):
    """All metrics by name and labels. `connection` is one of http.client's."""
    connection.request("GET", "/metrics", headers={"Authorization": authorization})
    response = connection.getresponse()
    text = response.read().decode()
    assert response.status == 200, text
    return {name: float(value) for name, _, value in
            (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))}


@contextmanager
def bounded_memory(server, most):
    """The server takes at most so many bytes more in between."""
    before = server.resident_bytes()
    yield
    grown = server.resident_bytes() - before
    assert grown <= most, f"the server took {grown >> 20} MiB more"
