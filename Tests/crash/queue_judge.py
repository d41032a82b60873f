"""Judges what happened to the messages of AMQP queues: histories in, sentences about what is broken out. Pure.

A message has an id `publisher:number`, is published at most once, and one publisher's numbers grow in each queue.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass
class QueueHistory:
    """What is known of one queue."""

    name: str
    # What each channel published to it: ids, in order. The next channel begins when the one before is gone.
    sessions: list = field(default_factory=list)
    # Ids that were confirmed, or followed by an orderly close.
    promised: set = field(default_factory=set)
    # What its only consumer saw and said, in order: ("open",) for a new channel, ("got", id, redelivered), ("ack", id),
    # ("reject", id), ("requeue", id), and ("settled", id) when the acknowledgement or rejection was promised.
    events: list = field(default_factory=list)
    # Ids that were in it at the end, in order.
    left: list = field(default_factory=list)
    # Ids that were in its dead-letter queue at the end; None without one.
    dead: list | None = None
    # A function from id to priority.
    priority: object = staticmethod(lambda identity: 0)
    # Whether messages come in the order of their publication.
    is_ordered: bool = True


def number(identity):
    publisher, _, last = identity.rpartition(":")
    return publisher, int(last)


def judge_queue(history):
    """Sentences about what is broken in one queue."""
    broken = []
    say = lambda text: broken.append(f"{history.name}: {text}")  # noqa: E731
    sent = {identity for session in history.sessions for identity in session}
    state, settled = _judge_deliveries(history, sent, say)
    left, dead = Counter(history.left), Counter(history.dead or ())
    for places, where in ((left, "left in the queue"), (dead, "among the dead letters")):
        for identity, count in places.items():
            if identity not in sent:
                say(f"unknown: {identity} is {where}, nobody sent it")
            if count > 1:
                say(f"twice: {identity} is {where} {count} times")
    known = history.promised | state.keys()
    for identity in sorted(sent & (known | left.keys() | dead.keys()), key=number):
        _judge_place(identity, state.get(identity), identity in settled, identity in left, identity in dead,
                     history.dead is not None, identity in known, say)
    if history.is_ordered:
        _judge_order_left(history, say)
    _judge_prefixes(history, state.keys() | left.keys() | dead.keys(), say)
    return broken


def _judge_deliveries(history, sent, say):
    """Goes through the consumer's ledger; returns what was done last to each id that was got, and what was promised."""
    state, settled = {}, {}
    newest_ever, newest, in_session, requeued = {}, {}, set(), set()
    for what, *rest in history.events:
        if what == "open":
            newest, in_session, requeued = {}, set(), set()
            continue
        identity = rest[0]
        if what == "settled":
            settled[identity] = state.get(identity)
            continue
        if what != "got":
            state[identity] = what
            if what == "requeue":
                requeued.add(identity)
            continue
        if identity not in sent:
            say(f"unknown: {identity} was delivered, nobody sent it")
            continue
        if identity in settled:
            say(f"undone: {identity} was delivered again after its {settled[identity]} was promised")
        publisher, place = number(identity)
        lane = publisher, history.priority(identity)
        if identity in requeued:
            requeued.discard(identity)
            if not rest[1]:
                say(f"unmarked: {identity} was delivered again without the mark redelivered")
        else:
            if identity in in_session:
                say(f"twice: {identity} was delivered twice on one channel, and not returned")
            elif history.is_ordered and place < newest.get(lane, -1):
                say(f"order: {identity} was delivered after {publisher}:{newest[lane]} on one channel")
            if identity not in state and history.is_ordered and place < newest_ever.get(lane, -1):
                say(f"order: {identity} was delivered for the first time after {publisher}:{newest_ever[lane]}")
        in_session.add(identity)
        newest[lane] = max(place, newest.get(lane, -1))
        newest_ever[lane] = max(place, newest_ever.get(lane, -1))
        state[identity] = "got"
    return state, settled


def _judge_place(identity, last, is_settled, is_left, is_dead, has_dead, must_be, say):
    """Where a message may be after what was done to it last."""
    if is_left and is_dead:
        say(f"twice: {identity} is in the queue and among its dead letters")
    if is_dead and last != "reject":
        say(f"dead: {identity} is among the dead letters, its last delivery was not rejected")
    if is_left and is_settled:
        say(f"undone: {identity} is in the queue, its {last} was promised")
    if last == "ack" or last == "reject" and not has_dead:
        return
    if last == "reject":
        if not is_left and not is_dead:
            say(f"lost: {identity} was rejected, and is neither in the queue nor among the dead letters")
        elif is_settled and not is_dead:
            say(f"lost: {identity} is not among the dead letters, its rejection was promised")
    elif must_be and not is_left:
        what = "promised" if last is None else "delivered, and not acknowledged"
        say(f"lost: {identity} was {what}, and is not there")


def _judge_order_left(history, say):
    newest, lowest = {}, None
    for identity in history.left:
        publisher, place = number(identity)
        priority = history.priority(identity)
        if place <= newest.get((publisher, priority), -1):
            say(f"order: {identity} is left behind {publisher}:{newest[publisher, priority]}")
        newest[publisher, priority] = max(place, newest.get((publisher, priority), -1))
        if lowest is not None and priority > lowest:
            say(f"order: {identity} of priority {priority} is left behind one of priority {lowest}")
        lowest = priority if lowest is None else min(lowest, priority)


def _judge_prefixes(history, survivors, say):
    """What a channel publishes to one priority of a queue is in one log, without gaps: only its end can be lost."""
    for session in history.sessions:
        missing = {}
        for identity in session:
            priority = history.priority(identity)
            if identity not in survivors:
                missing.setdefault(priority, identity)
            elif priority in missing:
                say(f"gap: {identity} is there, {missing[priority]} of the same channel is not")
                del missing[priority]


@dataclass
class Delayed:
    """A delayed message, times in ms since the epoch: it arrived between `sent` and `confirmed` (None: at any time)."""

    delay: int
    sent: int
    confirmed: int | None


def judge_delays(publications, deliveries, overdue_by_time=True):
    """`publications`: {id: Delayed}. `deliveries`: (id, time) in order; only the first of each id counts.

    `overdue_by_time`: what is overdue together comes in the order of its times, too. If not, only a publisher's earlier
    message that is due earlier must come first.
    """
    broken, delivered = [], {}  # {id: (publisher, place, when it was due at the earliest)}
    for identity, time in deliveries:
        message = publications.get(identity)
        if identity in delivered or message is None:
            continue
        publisher, place = number(identity)
        due = message.sent + message.delay
        if time < due:
            broken.append(f"early: {identity} was delivered {due - time} ms before its time")
        if message.confirmed is not None:
            latest = message.confirmed + message.delay
            wrong = [(their_due, other) for other, (whose, their_place, their_due) in delivered.items()
                     if their_due > latest and (overdue_by_time or whose == publisher and their_place > place)]
            if wrong:
                broken.append(f"time: {identity} was delivered after {max(wrong)[1]}, which was due at least "
                              f"{max(wrong)[0] - latest} ms later")
        delivered[identity] = publisher, place, due
    return broken


def judge_moves(seeded, ledgers, left):
    """Messages `name@hops` move between two queues: with an even number of hops they are in the first.

    `seeded`: the names, all of them in the first queue with 0 hops. `ledgers`: {mover: lines}, lines being
    ("got", message), ("try", message…) before tx.commit, and next ("moved",) when it was answered.
    `left`: the messages of the first and of the second queue at the end.
    """
    broken = []
    final, count = {}, Counter()
    for parity, messages in enumerate(left):
        for message in messages:
            name, hops = _hops(message)
            count[name] += 1
            final[name] = max(hops, final.get(name, 0))
            if hops % 2 != parity:
                broken.append(f"queue: {message} is in queue {parity}")
    for name in seeded:
        if count[name] != 1:
            broken.append(f"{'lost' if not count[name] else 'twice'}: {name} is there {count[name]} times")
    for name in count.keys() - set(seeded):
        broken.append(f"unknown: {name} is there, nobody sent it")
    tried = defaultdict(lambda: -1)
    for mover, lines in ledgers.items():
        broken += [f"{mover}: {text}" for text in _judge_mover(lines, final, tried)]
    for name, hops in final.items():
        if hops > tried[name] + 1:
            broken.append(f"unasked: {name} has moved {hops} times, its last try was number {tried[name] + 1}")
    return broken


def _hops(message):
    name, _, hops = message.partition("@")
    return name, int(hops)


def _judge_mover(lines, final, tried):
    """One mover's ledger against where everything is at the end; notes in `tried` the most hops that were asked for."""
    broken = []
    committed, newest, last_got = {}, {}, {}
    for index, (what, *messages) in enumerate(lines):
        if what == "got":
            last_got[messages[0]] = index
    for index, (what, *messages) in enumerate(lines):
        if what == "got":
            name, hops = _hops(messages[0])
            if hops <= committed.get(name, -1):
                broken.append(f"undone: {messages[0]} was delivered after its move was committed")
            if hops < newest.get(name, 0):
                broken.append(f"undone: {messages[0]} was delivered after {name}@{newest[name]}")
            newest[name] = max(hops, newest.get(name, 0))
        if what != "try":
            continue
        answer = lines[index + 1][0] if index + 1 < len(lines) else None
        moved = {}
        for message in messages:
            name, hops = _hops(message)
            tried[name] = max(hops, tried[name])
            if answer == "moved":
                committed[name] = hops
            if name in final:
                moved[message] = final[name] > hops and last_got.get(message, -1) < index
        if answer == "moved":
            broken += [f"undone: {message} is back, its move was committed" for message, done in moved.items()
                       if not done and final[_hops(message)[0]] <= _hops(message)[1]]
        elif len(set(moved.values())) > 1:
            broken.append("half: of one transaction " + ", ".join(
                f"{message} is {'' if done else 'not '}moved" for message, done in moved.items()))
    return broken
