"""Postgres: an instance of Debian's PostgreSQL for the length of a test, in a directory of its own, without a port."""

import getpass
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

# Nothing of it must outlive the process, so nothing waits for the disk.
SETTINGS = {
    "listen_addresses": "''", "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
    "wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off", "jit": "off", "shared_buffers": "256MB",
    "work_mem": "256MB", "max_connections": "10", "timezone": "'UTC'",
}


class PostgresFailed(Exception):
    """It did not start, or refused a statement; the message has its reason."""


def programs():
    """The folder of the newest version's programs; None when there is none."""
    found = [one for one in Path("/usr/lib/postgresql").glob("*/bin") if (one / "postgres").exists()]
    return max(found, key=lambda one: float(one.parent.name), default=None)


class Postgres:
    """A running server. It refuses to run as root, so for root it runs as the user `postgres`, or `nobody`."""

    def __init__(self):
        self.programs = programs()
        if self.programs is None:
            raise PostgresFailed("PostgreSQL is not installed: `Scripts/setup test` installs it")
        # Directly below /tmp: a socket's path may have 107 bytes, and the other user must get there.
        self.directory = Path(tempfile.mkdtemp(prefix="millrace-nexmark-"))
        # The kernel ends the server when this process is gone, however it went.
        self.prefix = ["setpriv", "--pdeathsig", "QUIT"]
        if os.getuid() == 0:
            self.user = self._other_user()
            self.prefix += [f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups"]
            os.chown(self.directory, self.user.pw_uid, self.user.pw_gid)
        self.process = None
        self.log = self.directory / "log"

    @staticmethod
    def _other_user():
        for name in ("postgres", "nobody"):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise PostgresFailed("root has no other user to run PostgreSQL as")

    def __enter__(self):
        try:
            return self._start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    def _start(self, timeout_seconds=60):
        data = self.directory / "data"
        done = subprocess.run(
            [*self.prefix, self.programs / "initdb", "--pgdata", data, "--username", "nexmark", "--auth", "trust",
             "--locale", "C", "--encoding", "UTF8", "--no-sync", "--no-instructions"],
            cwd=self.directory, capture_output=True, text=True, timeout=timeout_seconds)
        if done.returncode != 0:
            raise PostgresFailed(f"initdb as {getpass.getuser()}: {done.stderr}")
        settings = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value.strip(chr(39))}")]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*self.prefix, self.programs / "postgres", "-D", data, "-k", self.directory, *settings],
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + timeout_seconds
        while subprocess.run([self.programs / "pg_isready", "-q", "-h", self.directory]).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise PostgresFailed(f"PostgreSQL did not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.02)
        return self

    def _psql(self, *arguments):
        return [self.programs / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "FETCH_COUNT=10000",
                "-h", self.directory, "-U", "nexmark", "-d", "postgres", *arguments]

    def run(self, statements):
        """Runs statements and returns the bytes of their rows, columns separated by `|`, one a line."""
        done = subprocess.run(self._psql("-f", "-"), input=statements.encode(), capture_output=True)
        if done.returncode != 0:
            raise PostgresFailed(f"{done.stderr.decode()}\nin:\n{statements}")
        return done.stdout

    def copy_in(self, statement):
        """Starts a COPY … FROM STDIN: what is written to the process's `stdin` goes into the table."""
        return subprocess.Popen(self._psql("-c", statement), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                encoding="utf-8")

    def close(self, timeout_seconds=20):
        """Ends the server, at once because nothing is to be kept, and removes its files."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
