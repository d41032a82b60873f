#!/usr/bin/env python3
"""Records what real clients and the server say to each other: capture.py [BINARY]

Starts the server and a proxy before it, lets each client library of the tests create, produce, consume in a group and list,
and writes one frame of each API, version and direction and library to Fuzz/captured.txt, as hexadecimal digits. make-seeds.py makes
seeds of them.
"""

import pathlib
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "Tests" / "harness"), str(ROOT / "Tests" / "clients")]
LONGEST = 1500


class Proxy:
    """Passes bytes on in both directions and keeps frames."""

    def __init__(self):
        self.target = None
        self.frames = {}
        self.client = ""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            inner, _ = self.listener.accept()
            try:
                outer = socket.create_connection(("127.0.0.1", self.target))
            except OSError:  # the server is gone, its clients are not
                inner.close()
                continue
            waiting = {}
            threading.Thread(target=self.pump, args=(inner, outer, waiting, True), daemon=True).start()
            threading.Thread(target=self.pump, args=(outer, inner, waiting, False), daemon=True).start()

    def pump(self, source, sink, waiting, is_request):
        buffer = b""
        while True:
            try:
                data = source.recv(65536)
                sink.sendall(data)
            except OSError:
                data = b""
            if not data:
                return
            buffer += data
            while len(buffer) >= 4 and len(buffer) >= 4 + (size := struct.unpack(">i", buffer[:4])[0]):
                self.keep(buffer[4 : 4 + size], waiting, is_request)
                buffer = buffer[4 + size :]

    def keep(self, frame, waiting, is_request):
        if is_request:
            key, version, correlation = struct.unpack(">hhi", frame[:8])
            waiting[correlation] = (key, version)
            name = (self.client, "request", key, version)
        else:
            key, version = waiting.pop(struct.unpack(">i", frame[:4])[0], (None, None))
            if key is None:
                return
            name = (self.client, "response", key, version)
        # The longest that is not too long says most.
        if len(frame) <= LONGEST and len(frame) > len(self.frames.get(name, b"")):
            self.frames[name] = frame


def run_clients(proxy):
    """Lets every library produce, read and take part in a group."""
    from drivers import CLIENTS
    from millrace_tests.batches import Record

    bootstrap = f"127.0.0.1:{proxy.port}"
    for driver in CLIENTS:
        proxy.client = driver.name
        topic = f"captured-{driver.name}"
        for codec in ("none", "gzip", "lz4"):
            records = [Record(b"k%d" % n, b"value %d" % n, [], 1_000_000_000_000 + n) for n in range(3)]
            driver.produce(bootstrap, topic, records, codec=codec)
        driver.read(bootstrap, topic, count=3)
        try:
            member = driver.member(bootstrap, f"group-{driver.name}", topic)
            member.wait(lambda: member.records, what="a record")
            member.leave()
        except NotImplementedError:
            print(f"{driver.name} takes part in no group")


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / ".build" / "release" / "millrace")
    proxy = Proxy()
    with tempfile.TemporaryDirectory() as directory:
        server = subprocess.Popen(
            [binary, "serve", "--data", directory + "/data", "--kafka", "0", "--no-amqp", "--advertise",
             f"127.0.0.1:{proxy.port}"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            ready = re.match(r"millrace ready kafka=\S+:(\d+) ", server.stdout.readline())
            proxy.target = int(ready[1])
            run_clients(proxy)
        finally:
            server.terminate()
            server.wait()
    with open(ROOT / "Fuzz" / "captured.txt", "w") as out:
        for (client, direction, key, version), frame in sorted(proxy.frames.items()):
            out.write(f"{client} {direction} {key} {version} {frame.hex()}\n")
    print(f"{len(proxy.frames)} frames")


if __name__ == "__main__":
    main()
