"""Ledger: what producers were promised, and the check of a log against it."""

import os
from collections import defaultdict
from dataclasses import dataclass, field


class Ledger:
    """A file of acknowledgements, one line each: `id partition offset`; an id is `producer:sequence`.

    A line is handed to the operating system before `acknowledged` returns, so it outlives this process.
    """

    def __init__(self, path):
        self.path = path
        self._file = open(path, "ab", buffering=0)

    def acknowledged(self, identity, partition, offset):
        self._file.write(f"{identity} {partition} {offset}\n".encode())

    def acknowledged_all(self, entries):
        self._file.write("".join(f"{i} {p} {o}\n" for i, p, o in entries).encode())

    def close(self):
        self._file.close()


def read_ledger(path):
    """The entries (id, partition, offset) of a ledger; a cut last line was never acknowledged to anybody."""
    if not os.path.exists(path):
        return []
    with open(path, "rb") as file:
        text = file.read()
    return [(identity.decode(), int(partition), int(offset)) for identity, partition, offset in
            (line.split() for line in text[:text.rfind(b"\n") + 1].splitlines())]


@dataclass
class Verdict:
    """What a check found; the lists hold sentences, for people."""

    acknowledged: int = 0
    records: int = 0
    lost: list = field(default_factory=list)
    duplicates: list = field(default_factory=list)
    disorder: list = field(default_factory=list)
    gaps: list = field(default_factory=list)
    repeats_allowed: int = 0

    @property
    def clean(self):
        return not (self.lost or self.duplicates or self.disorder or self.gaps)

    def summary(self):
        text = f"acknowledged={self.acknowledged} lost={len(self.lost)} duplicates={len(self.duplicates)}"
        return text if self.clean else f"{text} disorder={len(self.disorder)} gaps={len(self.gaps)}"

    def problems(self, limit=20):
        every = [*self.lost, *self.duplicates, *self.disorder, *self.gaps]
        return every[:limit] + ([f"… and {len(every) - limit} more"] if len(every) > limit else [])


def check(ledger, log, idempotent):
    """Holds a log against the promises that were made for it.

    `ledger`: entries (id, partition, offset). `log`: {partition: [(offset, id), …]} in the order read, from the first
    offset to the last. `idempotent(producer)`: whether that producer may never appear twice; the others may repeat
    themselves after a lost answer, which is counted, not blamed.
    """
    verdict = Verdict(acknowledged=len(ledger), records=sum(len(entries) for entries in log.values()))
    places = defaultdict(list)
    for partition, entries in log.items():
        expected = 0
        newest = {}
        for offset, identity in entries:
            if offset != expected:
                verdict.gaps.append(f"partition {partition}: offset {offset} follows where {expected} should")
            expected = offset + 1
            producer, _, sequence = identity.rpartition(":")
            repeated = identity in places
            places[identity].append((partition, offset))
            if repeated:
                if idempotent(producer):
                    where = " and ".join(f"{p}@{o}" for p, o in places[identity])
                    verdict.duplicates.append(f"{identity} stands at {where}")
                else:
                    verdict.repeats_allowed += 1
                continue
            last = newest.get(producer, -1)
            if int(sequence) <= last:
                # A producer without idempotence has several requests in flight, so a retried one may come late.
                if idempotent(producer):
                    verdict.disorder.append(f"partition {partition}: {identity} stands after {producer}:{last}")
            else:
                newest[producer] = int(sequence)
    promised = {}
    for identity, partition, offset in ledger:
        if (partition, offset) not in places.get(identity, ()):
            found = ", ".join(f"{p}@{o}" for p, o in places.get(identity, ())) or "nowhere"
            verdict.lost.append(f"{identity} was acknowledged at {partition}@{offset}, the log has it {found}")
        other = promised.setdefault((partition, offset), identity)
        if other != identity:
            verdict.lost.append(f"{partition}@{offset} was promised to {other} and to {identity}")
    return verdict
