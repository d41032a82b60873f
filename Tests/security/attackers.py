"""Attackers: thousands of sockets at once from many addresses of this machine, and what honest clients notice of them."""

import base64
import multiprocessing
import os
import selectors
import socket
import statistics
import struct
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


def as_if_elsewhere():
    """This process attacks: what it computes would be computed by other machines, and is to take nothing from the server."""
    os.nice(19)


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
        as_if_elsewhere()
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

    def attack():
        as_if_elsewhere()
        theirs.send(function(*arguments))

    process = context.Process(target=attack, daemon=True)
    process.start()
    theirs.close()
    try:
        assert ours.poll(1200), "the attacker did not end"
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
    """A client that goes on asking, in a process of its own, and how long each answer took there: neither its library nor Python's lock is
    in that time."""

    def __init__(self, open_client, ask):
        """`open_client` makes what `ask` asks with, in the process of its own."""
        context = multiprocessing.get_context("fork")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=self._run, args=(theirs, open_client, ask), daemon=True)

    @staticmethod
    def _run(pipe, open_client, ask):
        times = []
        try:
            client = open_client()
            while True:
                if pipe.poll(0.002):
                    if pipe.recv() == "end":
                        break
                    pipe.send(times)
                    times = []
                began = time.perf_counter()
                ask(client)
                times.append(time.perf_counter() - began)
            pipe.send(None)
        except BaseException as error:  # handed to whoever waits
            pipe.send(repr(error))

    def __enter__(self):
        self._process.start()
        return self

    def _answer(self, word):
        # Nothing is there unasked but why it gave up, after which nobody takes a word any more.
        if not self._ours.poll(0):
            try:
                self._ours.send(word)
            except BrokenPipeError:
                pass  # it gave up just now, and said why before
        assert self._ours.poll(60), "an honest client waits for ever"
        return self._ours.recv()

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                error = self._answer("end")
                assert error is None, f"an honest client was let down: {error}"
        finally:
            self._process.kill()
            self._process.join()

    def quantiles(self):
        """Median and 99th percentile since the last call, in milliseconds, and of how many."""
        times = self._answer("times")
        assert isinstance(times, list), f"an honest client was let down: {times}"
        times.sort()
        assert times, "an honest client got no answer"
        return statistics.median(times) * 1000, times[min(len(times) - 1, len(times) * 99 // 100)] * 1000, len(times)


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
    """The server takes at most so many bytes more in between. Gives what it held when it was looked at, to which more may be added."""
    held = [server.resident_bytes()]
    yield held
    held.append(server.resident_bytes())
    grown = max(held) - held[0]
    assert grown <= most, f"the server took {grown >> 20} MiB more"
