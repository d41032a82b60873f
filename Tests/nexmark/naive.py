"""The Nexmark queries a second time, computed in Python in the plainest way, to check the oracle's SQL.

Each query takes the events in the order in which they come, as pairs of kind and fields, and gives rows as dictionaries.
Where Flink goes through the events one by one, so does this: sessions are merged as its session windows are.
"""

import bisect
import json
from collections import defaultdict
from datetime import datetime, timezone
from decimal import Decimal


class Site:
    """The events by their kinds, each list in the order of arrival."""

    def __init__(self, lines):
        self.persons, self.auctions, self.bids = [], [], []
        kinds = {"Person": self.persons, "Auction": self.auctions, "Bid": self.bids}
        for line in lines:
            ((kind, fields),) = json.loads(line).items()
            kinds[kind].append(fields)

    def bids_by_auction(self):
        found = defaultdict(list)
        for bid in self.bids:
            found[bid["auction"]].append(bid)
        return found

    def bids_while_open(self):
        """Of each auction that has any: itself and its bids while it was open."""
        bids = self.bids_by_auction()
        for auction in self.auctions:
            valid = [one for one in bids[auction["id"]] if auction["date_time"] <= one["date_time"] <= auction["expires"]]
            if valid:
                yield auction, valid


def line(row):
    """A row as the oracle writes it: no spaces, decimals with their places."""
    def text(value):
        return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)

    return ("{" + ",".join(f"{json.dumps(name)}:{text(value)}" for name, value in row.items()) + "}").encode()


def some(fields, *names):
    return {name: fields[name] for name in names}


def day(milliseconds):
    return datetime.fromtimestamp(milliseconds // 1000, timezone.utc).strftime("%Y-%m-%d")


class Timeline:
    """Events in the order of their times."""

    def __init__(self, events):
        self.events = sorted(events, key=lambda one: one["date_time"])
        self.times = [one["date_time"] for one in self.events]

    def between(self, first, last):
        """The events from one moment to another, both inclusive."""
        return self.events[bisect.bisect_left(self.times, first):bisect.bisect_right(self.times, last)]

    def windows(self, size, slide):
        """Every window that holds an event: its start and its events."""
        start = self.times[0] // slide * slide - size
        while start <= self.times[-1]:
            inside = self.between(start, start + size - 1)
            if inside:
                yield start, inside
            start += slide


def q0(site):
    for bid in site.bids:
        yield some(bid, "auction", "bidder", "price", "date_time", "extra")


def q1(site):
    for bid in site.bids:
        yield {**some(bid, "auction", "bidder"), "price": Decimal("0.908") * bid["price"], **some(bid, "date_time", "extra")}


def q2(site):
    for bid in site.bids:
        if bid["auction"] % 123 == 0:
            yield some(bid, "auction", "price")


def q3(site):
    for auction in site.auctions:
        if auction["category"] != 10:
            continue
        for person in site.persons:
            if person["id"] == auction["seller"] and person["state"] in ("or", "id", "ca"):
                yield {**some(person, "name", "city", "state"), "id": auction["id"]}


def q4(site):
    winning = defaultdict(list)
    for auction, bids in site.bids_while_open():
        winning[auction["category"]].append(max(bid["price"] for bid in bids))
    for category, prices in winning.items():
        yield {"category": category, "final": sum(prices) // len(prices)}


def q5(site):
    for _, bids in Timeline(site.bids).windows(10_000, 2_000):
        counts = defaultdict(int)
        for bid in bids:
            counts[bid["auction"]] += 1
        for auction, count in counts.items():
            if count == max(counts.values()):
                yield {"auction": auction, "num": count}


def q7(site):
    timeline = Timeline(site.bids)
    for start, bids in timeline.windows(10_000, 10_000):
        highest = max(bid["price"] for bid in bids)
        for bid in timeline.between(start, start + 10_000):
            if bid["price"] == highest:
                yield some(bid, "auction", "bidder", "price", "date_time", "extra")


def q8(site):
    for person in site.persons:
        window = person["date_time"] // 10_000
        if any(one["seller"] == person["id"] and one["date_time"] // 10_000 == window for one in site.auctions):
            yield {**some(person, "id", "name"), "stime": window * 10_000}


def q9(site):
    for auction, bids in site.bids_while_open():
        best = bids[0]
        for bid in bids[1:]:
            if bid["price"] > best["price"] or bid["price"] == best["price"] and bid["date_time"] < best["date_time"]:
                best = bid
        yield {
            **some(auction, "id", "item_name", "description", "initial_bid", "reserve", "date_time", "expires", "seller",
                   "category", "extra"),
            **some(best, "auction", "bidder", "price"), "bid_date_time": best["date_time"], "bid_extra": best["extra"]}


def q11(site):
    sessions = defaultdict(list)
    for bid in site.bids:
        mine = sessions[bid["bidder"]]
        # A window for itself, merged with those that it meets or touches.
        start, end, count = bid["date_time"], bid["date_time"] + 10_000, 1
        for other in [one for one in mine if start <= one[1] and end >= one[0]]:
            mine.remove(other)
            start, end, count = min(start, other[0]), max(end, other[1]), count + other[2]
        mine.append((start, end, count))
    for bidder, mine in sessions.items():
        for start, end, count in mine:
            yield {"bidder": bidder, "bid_count": count, "starttime": start, "endtime": end}


def q17(site):
    groups = defaultdict(list)
    for bid in site.bids:
        groups[bid["auction"], day(bid["date_time"])].append(bid["price"])
    for (auction, when), prices in groups.items():
        yield {
            "auction": auction, "day": when, "total_bids": len(prices),
            "rank1_bids": sum(price < 10_000 for price in prices),
            "rank2_bids": sum(10_000 <= price < 1_000_000 for price in prices),
            "rank3_bids": sum(price >= 1_000_000 for price in prices),
            "min_price": min(prices), "max_price": max(prices), "avg_price": sum(prices) // len(prices),
            "sum_price": sum(prices)}


BID = ("auction", "bidder", "price", "channel", "url", "date_time", "extra")


def q18(site):
    last = {}
    for bid in site.bids:
        key = bid["bidder"], bid["auction"]
        if key not in last or bid["date_time"] >= last[key]["date_time"]:
            last[key] = bid
    for bid in last.values():
        yield some(bid, *BID)


def q19(site):
    for bids in site.bids_by_auction().values():
        best = []
        for bid in bids:
            # Behind all that are as high, as they came before.
            place = sum(one["price"] >= bid["price"] for one in best)
            best.insert(place, bid)
            del best[10:]
        for rank, bid in enumerate(best, 1):
            yield {**some(bid, *BID), "rank_number": rank}


def q20(site):
    auctions = {one["id"]: one for one in site.auctions if one["category"] == 10}
    for bid in site.bids:
        auction = auctions.get(bid["auction"])
        if auction:
            yield {
                **some(bid, "auction", "bidder", "price", "channel", "url"), "bid_date_time": bid["date_time"],
                "bid_extra": bid["extra"], **some(auction, "item_name", "description", "initial_bid", "reserve"),
                "auction_date_time": auction["date_time"], **some(auction, "expires", "seller", "category"),
                "auction_extra": auction["extra"]}


QUERIES = {name: query for name, query in globals().items() if name.startswith("q") and name[1:].isdigit()}


def answer(query, site):
    """The lines of a query's result, sorted by bytes."""
    return sorted(line(row) for row in QUERIES[query](site))
