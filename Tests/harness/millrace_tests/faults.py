"""Faults: small disks, system calls that fail or take long, and flipped bits, made from outside a real server."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path


class Unavailable(Exception):
    """This machine cannot make the fault (no root, no strace, …); a test that needs it is skipped and says why."""


@contextlib.contextmanager
def small_disk(directory, size_bytes):
    """A tmpfs of `size_bytes` at `directory`, gone on leaving. Needs root."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "millrace-test", str(directory)],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"no tmpfs can be mounted here (needs root): {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def free_bytes(directory):
    """What may still be written to the file system of `directory`."""
    info = os.statvfs(directory)
    return info.f_bavail * info.f_frsize


class Injection:
    """strace on a running process: the system calls that `rule` names fail, or take longer, until `stop`.

    `rule` is strace's: `pread64:error=EIO`, `pwrite64:error=EIO:when=3`, `pwrite64:delay_enter=100000` (µs). `path`
    narrows it to calls on one file.
    """

    def __init__(self, pid, *rules, path=None, output=None):
        if shutil.which("strace") is None:
            raise Unavailable("strace is not installed")
        names = sorted({name for rule in rules for name in rule.split(":", 1)[0].split(",")})
        command = ["strace", "-f", "-q", "-o", str(output or "/dev/null"), "-e", f"trace={','.join(names)}"]
        for one in ([path] if isinstance(path, (str, Path)) else path or []):
            command += ["-P", str(one)]
        for rule in rules:
            command += ["-e", f"inject={rule}"]
        self.process = subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 10
        while not self._attached(pid):
            if self.process.poll() is not None:
                raise Unavailable(f"strace cannot attach: {self.process.stderr.read().strip()}")
            if time.monotonic() > deadline:
                self.stop()
                raise Unavailable("strace did not attach within 10 s")
            time.sleep(0.005)

    def _attached(self, pid):
        """Whether every thread of the process is traced by this strace."""
        tracers = set()
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                text = (task / "status").read_text()
                tracers.add(int(text.split("TracerPid:", 1)[1].split()[0]))
        return tracers == {self.process.pid}

    def stop(self):
        """Detaches; the process goes on as before."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def flip_bit(path, position, bit):
    """Flips one bit of a file."""
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ (1 << bit)]))


def copy_data(source, target):
    """A copy of a data directory that shares what it can with the original, and keeps holes."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=always", str(source), str(target)], check=True)


def drop_cache(path):
    """Makes the next read of a file come from the device."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
