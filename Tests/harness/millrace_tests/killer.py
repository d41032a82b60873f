"""Killer: restarts a server over and over, ending it with kill -9 at random moments."""

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
            self.server.kill()
            self.kills += 1
