"""Recording: the file operations of a real server, and the directory as a power loss at any of them may have left it.

The format is described in Sources/MillraceIO/RecordedOperation.swift. This reader shares no code with the server.
"""

import os
import struct
from dataclasses import dataclass, field

from .batches import crc32c

OPEN, WRITE, FLUSH, RESIZE, RENAME, REMOVE, CREATE_DIRECTORY, SYNC_DIRECTORY = range(1, 9)
TRUNCATE, DURABLE_WRITES = 32, 16
SECTOR = 512


@dataclass
class Operation:
    sequence: int
    kind: int
    file: int
    position: int
    length: int
    options: int
    path: str
    target: str
    data: bytes
    end: int  # where its entry ends in the recording


def read_recording(path):
    """The operations of a recording, in the order of their completion; a cut last entry is left out."""
    with open(path, "rb") as file:
        data = file.read()
    assert data[:12] == b"MRRECORD\0\0\0\1", "not a recording"
    at, operations = 12, []
    while at + 8 <= len(data):
        length, checksum = struct.unpack_from(">II", data, at)
        body = data[at + 8:at + 8 + length]
        if len(body) < length:
            break
        sequence, kind, number, position, size, options = struct.unpack_from(">QBIqqi", body)
        place, names = 33, []
        for _ in range(2):
            count, = struct.unpack_from(">i", body, place)
            names.append(body[place + 4:place + 4 + count].decode())
            place += 4 + count
        if length < 1 << 12:
            assert crc32c(body) == checksum, f"operation {sequence}: the checksum differs"
        assert sequence == len(operations) + 1
        at += 8 + length
        operations.append(Operation(sequence, kind, number, position, size, options, *names, body[place:], at))
    return operations


@dataclass
class Inode:
    """A file: what is durable, and the changes that are not yet, oldest first."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list = field(default_factory=list)  # (sequence, position or None for a resize, bytes or size, certain)

    @staticmethod
    def apply(content, position, change):
        if position is None:
            del content[change:]
            content.extend(bytes(change - len(content)))
            return
        content.extend(bytes(max(0, position + len(change) - len(content))))
        content[position:position + len(change)] = change

    def flush(self, through):
        while self.pending and self.pending[0][0] <= through:
            _, position, change, _ = self.pending.pop(0)
            self.apply(self.durable, position, change)

    def write(self, sequence, position, data, durably):
        # A durable write goes over what is in doubt before it, so it takes its place behind that.
        self.pending.append((sequence, position, data, durably))
        if durably and (len(self.pending) == 1 or any(earlier is None for _, earlier, _, _ in self.pending)):
            self.flush(sequence)  # a new size is durable with the data, and with it everything that led to it


class Disk:
    """The recorded directory, operation by operation."""

    def __init__(self):
        self.names = {}  # path: Inode, None for a directory
        self.durable_names = {}
        self.doubtful_names = []  # (sequence, changes {path: Inode or absent})
        self.files = {}

    def change(self, sequence, changes):
        for path, inode in changes.items():
            if inode is _ABSENT:
                self.names.pop(path, None)
            else:
                self.names[path] = inode
        self.doubtful_names.append((sequence, changes))

    def apply(self, one):
        if one.kind == OPEN:
            inode = self.names.get(one.path)
            if inode is None:
                inode = Inode()
                self.change(one.sequence, {one.path: inode})
            elif one.options & TRUNCATE:
                inode.pending.append((one.sequence, None, 0, False))
            self.files[one.file] = (inode, one.options)
        elif one.kind == WRITE:
            inode, options = self.files[one.file]
            inode.write(one.sequence, one.position, one.data or bytes(one.length), options & DURABLE_WRITES)
        elif one.kind == RESIZE:
            self.files[one.file][0].pending.append((one.sequence, None, one.length, False))
        elif one.kind == FLUSH:
            self.files[one.file][0].flush(one.position)
        elif one.kind == RENAME:
            self.change(one.sequence, {one.path: _ABSENT, one.target: self.names[one.path]})
        elif one.kind == REMOVE:
            self.change(one.sequence, {one.path: _ABSENT})
        elif one.kind == CREATE_DIRECTORY and one.path not in self.names:
            self.change(one.sequence, {one.path: None})
        elif one.kind == SYNC_DIRECTORY:
            kept = []
            for sequence, changes in self.doubtful_names:
                if sequence <= one.position and all(os.path.dirname(path) == one.path for path in changes):
                    self.settle(self.durable_names, changes)
                else:
                    kept.append((sequence, changes))
            self.doubtful_names = kept

    @staticmethod
    def settle(names, changes):
        for path, inode in changes.items():
            if inode is _ABSENT:
                names.pop(path, None)
            else:
                names[path] = inode

    def lose_power(self, directory, random=None):
        """Writes what a power loss now would leave: nothing that is in doubt, or what `random` keeps of it."""
        names = dict(self.durable_names)
        for _, changes in self.doubtful_names:
            if random is not None and random.random() < 0.5:
                self.settle(names, changes)
        os.makedirs(directory)
        for path in sorted(path for path, inode in names.items() if inode is None and path):
            os.makedirs(os.path.join(directory, path), exist_ok=True)
        for path, inode in names.items():
            if inode is None or not os.path.isdir(os.path.dirname(os.path.join(directory, path))):
                continue
            content = bytearray(inode.durable)
            for _, position, change, certain in inode.pending:
                if random is None and not certain:
                    continue
                chance = 0 if certain else random.random()
                if chance < 0.4:
                    Inode.apply(content, position, change)
                elif chance < 0.7 and position is not None:
                    self.tear(content, position, change, random)
            with open(os.path.join(directory, path), "wb") as file:
                file.write(content)

    @staticmethod
    def tear(content, position, change, random):
        """Some sectors of a write arrive, others do not."""
        for at in range(0, len(change), SECTOR):
            if random.random() < 0.5:
                Inode.apply(content, position + at, change[at:at + SECTOR])


_ABSENT = object()
