"""Driver: what a test may ask of any client; Member: a group member in a thread of its own."""

import threading
import time


class Driver:
    """One client library. Records are `millrace_tests.batches.Record`."""

    name = ""
    #: Whether keys, values and header values must be printable text, and an empty value cannot be told from none.
    text_only = False
    #: Whether it can write a header without a value.
    null_headers = True
    #: Whether a member that is told to leave may drop a record whose offset it commits.
    drops_at_exit = False

    def produce(self, bootstrap, topic, records, codec="none", acks="all", idempotent=False, partition=0):
        """Sends all and returns their offsets (-1 or None each where the client does not learn them)."""
        raise NotImplementedError

    def read(self, bootstrap, topic, partition=0, first=0, count=1, timeout_seconds=20):
        """Reads `count` records by assignment, from offset `first` on."""
        raise NotImplementedError

    def offset_for_time(self, bootstrap, topic, partition, milliseconds):
        """The first offset whose record is not older; None or -1 where there is none."""
        raise NotImplementedError

    def member(self, bootstrap, group, topic, **options):
        """A started `Member` of a group; see its subclass for the options."""
        raise NotImplementedError

    def __repr__(self):
        return self.name


class Member:
    """A consumer in a group. Its thread makes every call to the client and collects what arrives.

    Subclasses implement `_run`, which consumes until `stopping` is set and then leaves the group cleanly, committing
    the position of what it has handed over.
    """

    def __init__(self, bootstrap, group, topic, from_beginning=True, instance=None, session_timeout_ms=6000):
        self.bootstrap, self.group, self.topic = bootstrap, group, topic
        self.from_beginning, self.instance, self.session_timeout_ms = from_beginning, instance, session_timeout_ms
        self.records = []
        self.assigned = None  # partitions, once an assignment arrived
        self.assignments = 0
        self.error = None
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._guarded, daemon=True)

    def start(self):
        self._thread.start()
        return self

    def _guarded(self):
        try:
            self._run()
        except BaseException as error:  # handed to whoever waits
            self.error = error

    def _run(self):
        raise NotImplementedError

    def _received(self, record):
        self.records.append(record)

    def _got_assignment(self, partitions):
        self.assigned = set(partitions)
        self.assignments += 1

    def wait(self, condition, timeout_seconds=30, what="a condition"):
        """Returns once `condition()` holds; fails when the member failed or time is up."""
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            if self.error is not None:
                raise self.error
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come within {timeout_seconds} s; assigned {self.assigned}, "
                                   f"{len(self.records)} records")
            time.sleep(0.01)
        return self

    def wait_assigned(self, count=None, timeout_seconds=30):
        """Returns once partitions (exactly `count` of them, if given) are assigned."""
        return self.wait(lambda: self.assigned is not None and (count is None or len(self.assigned) == count),
                         timeout_seconds, f"an assignment of {count} partitions")

    def wait_records(self, count, timeout_seconds=30):
        return self.wait(lambda: len(self.records) >= count, timeout_seconds, f"{count} records")

    def leave(self, timeout_seconds=30):
        """Leaves the group cleanly."""
        self.stopping.set()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            raise TimeoutError("the member did not leave its group")
        if self.error is not None:
            raise self.error
        return self.records

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self._thread.join(30)
