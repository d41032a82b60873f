"""Killer: restarts a server over and over, ending it with kill -9 at random moments."""

import os
import signal
import time

from .server import ServerFailed


class Killer:
    """Drives one server through kills; `random` decides the moments, so a seed repeats the choices."""

    def __init__(self, server, random, shortest_seconds=0.02, longest_seconds=0.8):
        self.server = server
        self.random = random
        self.shortest_seconds = shortest_seconds
        self.longest_seconds = longest_seconds
        self.kills = 0
        self.kills_while_starting = 0
        self.clean_stops = 0

    def moment(self):
        """How long to let it live: short lives as likely as long ones, on a logarithmic scale."""
        return self.shortest_seconds * (self.longest_seconds / self.shortest_seconds) ** self.random.random()

    def cycle(self):
        """One life of the server: started, left alone for a moment, killed. It is down on return."""
        choice = self.random.random()
        moment = self.moment()
        self.server.launch()
        if choice < 0.15 and self.server.port != 0:
            # Somewhere in recovery, mostly before the ready line.
            time.sleep(min(moment, 0.05))
            if self.server.process.poll() is not None:
                raise ServerFailed(f"ended by itself with {self.server.process.returncode}{self.server.log_tail()}")
            self.server.kill()
            self.kills += 1
            self.kills_while_starting += 1
            return
        self.server.await_ready()
        end = time.monotonic() + moment
        while time.monotonic() < end:
            time.sleep(max(0, min(0.02, end - time.monotonic())))
            self.server.drain_output()
        if self.server.process.poll() is not None:
            raise ServerFailed(f"ended by itself with {self.server.process.returncode}{self.server.log_tail()}")
        if choice > 0.95:
            self.server.stop()
            self.clean_stops += 1
        else:
            self.kill()

    def kill(self):
        """The end of a life that goes on."""
        self.server.kill()
        self.kills += 1


class Trigger:
    """Lets a client kill the server right behind an answer, before the server has done anything else.

    Shared by processes. Promises have kinds, so that a rare one is as likely to be the last as a frequent one.
    """

    def __init__(self, context, kinds):
        self.kinds = list(kinds)
        self._armed = context.Array("q", [0, 0])  # the process to kill, 0 when there is none; the kind

    def arm(self, pid, kind):
        with self._armed.get_lock():
            self._armed[:] = [pid, self.kinds.index(kind)]

    def disarm(self):
        with self._armed.get_lock():
            self._armed[0] = 0

    def promised(self, kind):
        """Called by clients: a promise of this kind has just arrived."""
        with self._armed.get_lock():
            if self._armed[0] and self.kinds[self._armed[1]] == kind:
                os.kill(self._armed[0], signal.SIGKILL)
                self._armed[0] = 0


class TriggeredKiller(Killer):
    """Ends most lives behind a promise of a kind that is drawn, when one comes soon."""

    def __init__(self, server, random, trigger, **options):
        super().__init__(server, random, **options)
        self.trigger = trigger
        self.kills_behind = dict.fromkeys(trigger.kinds, 0)

    def kill(self):
        if self.random.random() < 0.6:
            kind = self.random.choice(self.trigger.kinds)
            self.trigger.arm(self.server.process.pid, kind)
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline and self.server.process.poll() is None:
                time.sleep(0.002)
                self.server.drain_output()
            self.trigger.disarm()
            code = self.server.process.poll()
            if code not in (None, -signal.SIGKILL):
                raise ServerFailed(f"ended by itself with {code}{self.server.log_tail()}")
            self.kills_behind[kind] += code is not None
        super().kill()
