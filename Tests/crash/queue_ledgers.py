"""From the ledgers of the queue crash test, and what was left, to histories and their judgement. Pure."""

from collections import Counter

from queue_client import MOVED, priority_of
from queue_judge import Delayed, QueueHistory, judge_delays, judge_moves, judge_queue

# Which kind of publication fills which queue.
QUEUES = {"direct": "direct", "fan.a": "fan", "fan.b": "fan", "priority": "priority", "quorum": "quorum",
          "work": "work", "later": "later", "plain": "plain"}
PUBLISHERS = ["p0", "p1", "p2"]
CONSUMERS = ["consumer", "rejecter"]
MOVERS = ["forth", "back"]


def read_ledger(path):
    """The lines as words; a last line that was cut was never complete for anybody."""
    data = path.read_bytes()
    return [line.split() for line in data[:data.rfind(b"\n") + 1].decode().splitlines()]


def kind_of(identity):
    return identity.partition(".")[2].partition(":")[0]


def publications(ledgers):
    """({kind: sessions}, promised ids, {id: Delayed})."""
    sessions = {kind: [] for kind in QUEUES.values()}
    promised, delayed = set(), {}
    for name in PUBLISHERS:
        current = None
        for what, *words in ledgers[name]:
            if what == "session":
                current = {kind: [] for kind in sessions}
                for kind, ids in current.items():
                    sessions[kind].append(ids)
            elif what == "sent":
                current[kind_of(words[0])].append(words[0])
                if len(words) > 1:
                    delayed[words[0]] = Delayed(int(words[1]), int(words[2]), None)
            elif what == "ok":
                promised.add(words[0])
                if words[0] in delayed:
                    delayed[words[0]].confirmed = int(words[1])
            elif what == "closed":
                promised.update(identity for ids in current.values() for identity in ids)
    return sessions, promised, delayed


def deliveries(ledgers):
    """{queue: events}."""
    events = {queue: [] for queue in QUEUES}
    for name in CONSUMERS:
        for what, *words in ledgers[name]:
            if what == "open":
                events[words[0]].append(("open",))
            elif what == "got":
                events[words[0]].append(("got", words[1], words[2] == "1"))
            elif what in ("ack", "reject", "requeue", "settled"):
                events[words[0]].append((what, words[1]))
    return events


def still_delayed(ledgers):
    """The confirmed delayed messages that nobody acknowledged: what must yet come when it is due."""
    _, promised, delayed = publications(ledgers)
    return promised & delayed.keys() - {one[1] for one in deliveries(ledgers)["later"] if one[0] == "ack"}


def judge(ledgers, left):
    """Sentences about what is broken, and the counts that show how much was tried.

    `ledgers`: {process: lines as words}. `left`: {queue: [(text, headers, time in ms)]}, as it was read at the end.
    """
    broken = [f"{name}: error: {' '.join(words)}" for name, lines in ledgers.items()
              for what, *words in lines if what == "error"]
    sessions, promised, delayed = publications(ledgers)
    events = deliveries(ledgers)
    texts = {queue: [text for text, *_ in messages] for queue, messages in left.items()}
    for queue, kind in QUEUES.items():
        ids = {identity for session in sessions[kind] for identity in session}
        broken += judge_queue(QueueHistory(
            queue, sessions[kind], promised & ids, events[queue], texts[queue],
            texts["dead"] if queue == "work" else None, priority_of if kind == "priority" else lambda _: 0,
            is_ordered=kind != "later"))
    times = [(words[1], int(words[3])) for what, *words in ledgers["consumer"] if what == "got" and words[0] == "later"]
    times += [(text, time) for text, _, time in left["later"]]
    broken += [f"later: {text}" for text in judge_delays(delayed, times, overdue_by_time=False)]
    for text, headers, _ in left["dead"]:
        deaths = [(one["queue"], one["reason"], one["count"]) for one in headers.get("x-death", ())]
        if deaths != [("work", "rejected", 1)]:
            broken.append(f"work: death: {text} has the deaths {deaths}")
    moves = {name: [line for line in ledgers[name] if line[0] in ("got", "try", "moved")] for name in MOVERS}
    broken += [f"moves: {text}" for text in judge_moves(
        [f"m:{number}" for number in range(MOVED)], moves, (texts["in"], texts["out"]))]
    lines = Counter(what for lines in ledgers.values() for what, *_ in lines)
    return broken, {
        "confirmed": lines["ok"], "unconfirmed": sum(map(len, sessions["plain"])), "channels closed": lines["closed"],
        "delivered": lines["got"], "settled": lines["settled"], "dead": len(left["dead"]), "delayed": len(delayed),
        "left": sum(map(len, left.values())), "transactions": lines["moved"],
        "unanswered": lines["try"] - lines["moved"]}
