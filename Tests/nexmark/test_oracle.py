"""The oracle against a second computation: generated events of several kinds, and a few made for ties and borders."""

import json

import naive
import oracle
import postgres
import pytest
from millrace_tests.server import ROOT

PAGE = ROOT / "docs" / "reference" / "nexmark.md"


@pytest.fixture(scope="module")
def loaded():
    """An oracle in a running PostgreSQL."""
    if postgres.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres.Postgres() as server:
        yield oracle.Oracle(server)


def differences(ours, theirs):
    """A few rows that only one of the two has."""
    return {"only SQL": sorted(set(ours) - set(theirs))[:3], "only Python": sorted(set(theirs) - set(ours))[:3]}


# Seconds of event time, and which queries must have several rows: a day's end, sessions, ties in time.
@pytest.mark.parametrize("arguments", [
    ["--events", 20_000, "--rate", 100],
    ["--events", 20_000, "--rate", 10_000, "--from", 3_000_000],
    ["--events", 20_000, "--rate", 1, "--from", 76_400],
], ids=lambda one: " ".join(map(str, one)))
def test_sql_and_python_agree_over_generated_events(loaded, arguments):
    with oracle.generated(*arguments) as lines:
        events = list(lines)
    assert loaded.load(events) == len(events) == 20_000
    site = naive.Site(events)
    sizes = {}
    for query in oracle.QUERIES:
        ours, theirs = loaded.answer(query), naive.answer(query, site)
        assert ours == theirs, (query, differences(ours, theirs))
        sizes[query] = len(ours)
    print(sizes)
    assert min(sizes.values()) > 0, sizes


def test_every_query_of_the_page_is_there_and_no_other():
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("| `q")]
    named = {row[1].strip(" `"): row[3] for row in rows}
    assert list(named) == oracle.QUERIES == list(naive.QUERIES)


def test_the_page_names_the_fields_of_every_row(loaded):
    with oracle.generated("--events", 20_000) as lines:
        loaded.load(lines)
    for row in PAGE.read_text().splitlines():
        if row.startswith("| `q"):
            query, fields = row.split("|")[1].strip(" `"), row.split("|")[3].split("`")[1::2]
            assert list(json.loads(loaded.answer(query)[0])) == fields, query


class Made:
    """Events by hand: what a test does not name is the same for all."""

    def __init__(self):
        self.lines = []

    def _add(self, kind, fields, chosen):
        assert set(chosen) <= set(fields), chosen
        self.lines.append(json.dumps({kind: {**fields, **chosen}}).encode())
        return self

    def person(self, **chosen):
        return self._add("Person", {
            "id": 1, "name": "n", "email_address": "", "credit_card": "", "city": "c", "state": "or", "date_time": 0,
            "extra": ""}, chosen)

    def auction(self, **chosen):
        return self._add("Auction", {
            "id": 1, "item_name": "i", "description": "", "initial_bid": 1, "reserve": 2, "date_time": 0,
            "expires": 1_000, "seller": 1, "category": 10, "extra": ""}, chosen)

    def bid(self, **chosen):
        return self._add("Bid", {
            "auction": 1, "bidder": 1, "price": 10, "channel": "", "url": "", "date_time": 0, "extra": ""}, chosen)

    def answers(self, loaded, query, *names):
        """The named fields of the rows, in both ways of computing them."""
        loaded.load(self.lines)
        ours = loaded.answer(query)
        assert ours == naive.answer(query, naive.Site(self.lines))
        return sorted(tuple(json.loads(row)[name] for name in names) for row in ours)


def test_q1_has_three_decimals_without_error(loaded):
    made = Made().bid(price=100_000_000).bid(price=1).bid(price=9_007_199_254_740_993).bid(price=250)
    made.answers(loaded, "q1", "price")
    assert [row.split(b'"price":')[1].split(b",")[0] for row in loaded.answer("q1")] == [
        b"0.908", b"227.000", b"8178536923304821.644", b"90800000.000"]


def test_q4_and_q9_count_bids_from_opening_to_expiry_inclusive(loaded):
    made = Made().auction(date_time=100, expires=200)
    made.bid(date_time=99, price=50).bid(date_time=201, price=60).bid(date_time=100, price=7).bid(date_time=200, price=8)
    assert made.answers(loaded, "q9", "price", "bid_date_time") == [(8, 200)]
    made.auction(id=2, expires=0).bid(auction=2, price=17)
    # (8 + 17) / 2, without its fraction.
    assert made.answers(loaded, "q4", "category", "final") == [(10, 12)]


def test_q9_takes_the_earliest_of_equal_bids_and_of_those_the_first_to_come(loaded):
    made = Made().bid(extra="before its auction", date_time=5).auction(date_time=0, expires=9)
    assert made.answers(loaded, "q9", "bid_extra") == [("before its auction",)]
    made.bid(extra="late", date_time=6)
    assert made.answers(loaded, "q9", "bid_extra") == [("before its auction",)]
    made.bid(extra="early", date_time=4).bid(extra="as early", date_time=4)
    assert made.answers(loaded, "q9", "bid_extra") == [("early",)]


def test_q5_keeps_all_ties_in_windows_that_begin_at_even_seconds(loaded):
    made = Made().bid(auction=1, date_time=20_000).bid(auction=2, date_time=29_999).bid(auction=3, date_time=30_000)
    # Windows from 12, 14, 16 and 18: auction 1; from 20: 1 and 2; from 22, 24, 26 and 28: 2 and 3; from 30: 3.
    assert made.answers(loaded, "q5", "auction", "num") == sorted([(1, 1)] * 5 + [(2, 1)] * 5 + [(3, 1)] * 5)


def test_q7_also_takes_the_bid_at_the_end_of_the_window(loaded):
    made = Made().bid(date_time=9_999, extra="a").bid(date_time=10_000, extra="b").bid(date_time=10_001, extra="c")
    # a is the highest of the first window, b and c of the second; b is also at the first one's end.
    assert made.answers(loaded, "q7", "extra") == [("a",), ("b",), ("b",), ("c",)]


def test_q8_looks_at_windows_and_not_at_distances(loaded):
    made = Made().person(id=1, date_time=9_999).person(id=2, date_time=10_000).person(id=3, date_time=10_000)
    for seller, when in ((1, 10_000), (2, 19_999), (2, 10_000), (3, 9_999)):
        made.auction(id=10 + seller, seller=seller, date_time=when)
    assert made.answers(loaded, "q8", "id", "stime") == [(2, 10_000)]


def test_q11_ends_a_session_when_more_than_ten_seconds_pass(loaded):
    made = Made().bid(date_time=0).bid(date_time=10_000).bid(date_time=20_001).bid(bidder=2, date_time=5)
    made.bid(date_time=30_001).bid(date_time=40_002)
    assert made.answers(loaded, "q11", "bidder", "bid_count", "starttime", "endtime") == [
        (1, 1, 40_002, 50_002), (1, 2, 0, 20_000), (1, 2, 20_001, 40_001), (2, 1, 5, 10_005)]


def test_q11_joins_sessions_through_a_bid_that_comes_late(loaded):
    made = Made().bid(date_time=0).bid(date_time=20_000).bid(date_time=10_000)
    assert made.answers(loaded, "q11", "bid_count", "endtime") == [(3, 30_000)]


def test_q17_divides_days_in_utc_and_drops_fractions(loaded):
    midnight = 86_400_000
    made = Made().bid(date_time=midnight - 1, price=9_999).bid(date_time=midnight, price=10_000)
    made.bid(date_time=midnight + 1, price=999_999).bid(date_time=midnight + 2, price=1_000_000)
    assert made.answers(loaded, "q17", "day", "total_bids", "rank1_bids", "rank2_bids", "rank3_bids", "avg_price") == [
        ("1970-01-01", 1, 1, 0, 0, 9_999), ("1970-01-02", 3, 0, 2, 1, 669_999)]


def test_q18_takes_the_latest_and_of_those_the_last_to_come(loaded):
    made = Made().bid(date_time=5, extra="a").bid(date_time=5, extra="b").bid(date_time=4, extra="c")
    made.bid(bidder=2, date_time=1, extra="d")
    assert made.answers(loaded, "q18", "extra") == [("b",), ("d",)]


def test_q19_ranks_equal_prices_in_the_order_in_which_they_came(loaded):
    made = Made()
    for number in range(12):
        made.bid(price=7 if number % 2 else 5, date_time=100 - number, extra=str(number))
    assert [row[1] for row in made.answers(loaded, "q19", "rank_number", "extra")] == [
        "1", "3", "5", "7", "9", "11", "0", "2", "4", "6"]


def test_q20_and_q3_join_whatever_comes_first(loaded):
    made = Made().bid(extra="first").auction().person(state="id").bid(extra="last").auction(id=2, category=11)
    made.bid(auction=2)
    assert made.answers(loaded, "q20", "bid_extra") == [("first",), ("last",)]
    assert made.answers(loaded, "q3", "state", "id") == [("id", 1)]
    made.auction(id=3, seller=2).person(id=2, state="wa")
    assert made.answers(loaded, "q3", "id") == [(1,)]


def test_texts_of_any_kind_pass_through(loaded):
    texts = ['with "quotes" and , commas', "back\\slash", "Mühle ☃", "line\nfeed", ""]
    made = Made()
    for text in texts:
        made.bid(extra=text)
    assert [extra for (extra,) in made.answers(loaded, "q0", "extra")] == sorted(texts)
