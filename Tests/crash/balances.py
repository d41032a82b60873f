"""Judges balances as a reader sees them: changes and totals in, sentences about what is broken out. Pure.

`changes` says what a table of balances took back (weight −1) and brought (1); a total says how many changes there were at the end
of a commit, and what the balances then came to. They come in order, each in its own topic; which of the topics is ahead does
not matter.
"""

from collections import deque


class Balances:
    """What was read so far; `problems` is what is wrong with it."""

    def __init__(self):
        self.live = {}
        self.changes = 0
        self.commits = 0
        self.problems = []
        self._sum = 0
        self._sums = deque()  # after each change since the last commit that was judged
        self._judged = 0
        self._said = 0
        self._waiting = deque()

    def take_change(self, account, balance, weight):
        if weight == -1:
            found = self.live.pop(account, None)
            if found != balance:
                self._broken(f"change {self.changes} takes {balance} of account {account} back, which has {found}")
        elif weight == 1:
            if account in self.live:
                self._broken(f"change {self.changes} brings account {account} a second balance, {balance}")
            self.live[account] = balance
        else:
            self._broken(f"change {self.changes} has the weight {weight}")
        self.changes += 1
        self._sum += balance * weight
        self._sums.append(self._sum)
        self._judge()

    def take_total(self, changes, total):
        """A commit ends after so many changes."""
        if changes <= self._said:
            self._broken(f"a total follows {changes} changes, and the one before it {self._said}")
            return
        self._said = changes
        if total != 0:
            self._broken(f"after {changes} changes the total is {total}")
        self._waiting.append(changes)
        self._judge()

    @property
    def said(self):
        """The changes that the last total speaks of: as many must be there for whoever has read it."""
        return self._said

    def _judge(self):
        while self._waiting and self._waiting[0] <= self.changes:
            end = self._waiting.popleft()
            while self._judged < end:
                total = self._sums.popleft()
                self._judged += 1
            self.commits += 1
            if total != 0:
                self._broken(f"the balances after {end} changes, where a commit ends, add up to {total}")

    def finish(self, expected):
        """Everything was read: balances must be those that the transfers lead to, and no change may be without its total."""
        if self.changes != self._said:
            self._broken(f"there are {self.changes} changes, and the last total speaks of {self._said}")
        wrong = sorted(a for a in expected.keys() | self.live.keys() if expected.get(a) != self.live.get(a))
        for account in wrong[:10]:
            self._broken(f"account {account} has {self.live.get(account)}, not {expected.get(account)}")
        if len(wrong) > 10:
            self._broken(f"… and {len(wrong) - 10} more accounts")

    def _broken(self, sentence):
        if len(self.problems) < 20:
            self.problems.append(sentence)
