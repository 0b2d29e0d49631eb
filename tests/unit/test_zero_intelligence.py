"""Zero-intelligence traders: the compiled pass against a plain twin, the rates it keeps, and a run."""

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import abm
from abm.agents.zero_intelligence import OrderFlow, Rates, Tail, ZeroIntelligenceConfig, ZeroIntelligenceTraders
from abm.exchange.messages import Kind, Reason, Records, Side, TimeInForce

N_TICKS = 60
FIELDS = ("instrument", "owner", "kind", "side", "order", "price", "quantity", "tif", "reason")
Sent = list[tuple[int, ...]]


def rates(**changes: Any) -> Rates:
    told: dict[str, Any] = {
        "limit_orders": (1.85, 1.51, 1.09),
        "tail": Tail(furthest=6),
        "market_orders": 2.0,
        "cancellations": (0.7, 0.3),
        "step_ticks": 3,
    }
    return ZeroIntelligenceConfig(**(told | changes)).rates(2, N_TICKS)


# ---------------------------------------------------------------------------------------------------------- the pass


class Twin:
    """One book of the traders in plain Python."""

    def __init__(self, rates: Rates, instrument: int, owner: int, price: int, accounts: int) -> None:
        self.rates, self.instrument, self.owner, self.accounts = rates, instrument, owner, accounts
        self.bid, self.ask, self.clock = price, price + 1, 0.0
        self.resting: list[tuple[int, int, int, int]] = []

    def act(self, until: float, luck: list[list[float]], first: int) -> Sent:
        sent: Sent = []
        most = max(self.rates.cancelled)
        steps = np.diff(self.rates.within, prepend=0.0).tolist()
        for waiting, what, which in luck:
            choices = [(side, step) for side in (Side.BUY, Side.SELL) for step in [*range(len(steps)), None]]
            weights = [self.rates.market if step is None else steps[step] for _, step in choices]
            weights += [most] * len(self.resting)
            self.clock += math.log(1 / (1 - waiting)) / sum(weights)
            if self.clock > until:
                self.clock = until
                break
            x = what * sum(weights)
            chosen = int(np.searchsorted(np.cumsum(weights), x, side="right"))
            along = (x - sum(weights[:chosen])) / weights[chosen]
            if chosen < len(choices):
                sent += self._order(*choices[chosen], along, which, first + len(sent))
            else:
                sent += self._cancel(chosen - len(choices), which * most)
        return sent

    def _order(self, side: Side, step: int | None, along: float, which: float, order: int) -> Sent:
        owner, kind, price, tif = self.owner + int(which * self.accounts), Kind.MARKET, 0, TimeInForce.IOC
        if step is not None:
            away = 1 + step * self.rates.step_ticks + int(along * self.rates.step_ticks)
            kind, price, tif = Kind.LIMIT, self.ask - away if side == Side.BUY else self.bid + away, TimeInForce.GTC
            if not 1 <= price < self.rates.n_ticks:
                return []
            self.resting.append((order, owner, price, side))
        return [(self.instrument, owner, kind, side, order, price, self.rates.lots, tif, Reason.NOISE)]

    def _cancel(self, place: int, level: float) -> Sent:
        order, owner, price, side = self.resting[place]
        away = max(1, self.ask - price if side == Side.BUY else price - self.bid)
        step = math.ceil(away / self.rates.step_ticks)
        if level >= self.rates.cancelled[min(step, len(self.rates.cancelled)) - 1]:
            return []
        self.resting[place] = self.resting[-1]
        self.resting.pop()
        return [(self.instrument, owner, Kind.CANCEL, side, order, 0, self.rates.lots, TimeInForce.GTC, Reason.NOISE)]


def rows(messages: Records) -> Sent:
    return [tuple(int(message[field]) for field in FIELDS) for message in messages]


@pytest.mark.parametrize("seed", range(5))
def test_the_compiled_pass_sends_what_the_plain_twin_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    told = rates(step_ticks=1 + seed, market_orders=float(seed))
    books, accounts, first = 4, 3, 1
    flow = OrderFlow(told, np.arange(books), 10 * np.arange(books), 30, accounts)
    twins = [Twin(told, book, 10 * book, 30, accounts) for book in range(books)]
    kinds: set[int] = set()
    for _ in range(150):
        which = np.flatnonzero(rng.random(books) < 0.8)
        until = float(flow.books["clock"].max() + rng.choice([0.05, 0.5, 5.0]))
        luck = rng.random((len(which), 4, 3))
        bids = rng.integers(1, 55, books) * (rng.random(books) < 0.8)
        asks = np.where(bids > 0, bids + rng.integers(1, 5, books), 0)
        flow.quote(bids, asks)
        sent = flow.act(which, until, luck, first)
        expected: Sent = []
        for book, twin in enumerate(twins):
            if bids[book]:
                twin.bid, twin.ask = int(bids[book]), int(asks[book])
            if book in which:
                expected += twin.act(until, luck[list(which).index(book)].tolist(), first + len(expected))
        assert rows(sent) == expected
        np.testing.assert_allclose(flow.books["clock"], [twin.clock for twin in twins], rtol=1e-12)
        assert flow.books["count"].tolist() == [len(twin.resting) for twin in twins]
        first += len(sent)
        kinds |= {message[2] for message in expected}
    assert kinds == {Kind.LIMIT, Kind.CANCEL} | ({Kind.MARKET} if told.market else set())


def test_as_many_rest_as_a_queue_with_that_many_servers_has() -> None:
    """Arrivals at a rate, each leaving at a rate of its own: a Poisson number of mean and variance 2 lambda / theta."""
    told = rates(limit_orders=(3.0,), tail=None, market_orders=0.0, cancellations=(0.25,))
    flow = OrderFlow(told, np.arange(3000), np.arange(3000), 30)
    every, rng = np.arange(3000), np.random.default_rng(3)
    for minute in range(1, 26):
        flow.act(every, float(minute), rng.random((3000, 60, 3)), 1)
    assert (flow.books["clock"] == 25.0).all()
    assert flow.books["count"].mean() == pytest.approx(24.0, abs=4 * (24 / 3000) ** 0.5)
    assert flow.books["count"].var() == pytest.approx(24.0, rel=4 * (2 / 3000) ** 0.5)


def test_what_a_book_is_given_replaces_what_it_had_and_is_cancelled_like_it() -> None:
    told = rates(limit_orders=(0.0,), tail=None, market_orders=1.0, cancellations=(1e6,))
    flow = OrderFlow(told, [0, 1], [5, 6], 30)
    orders = np.zeros((1, 100), abm.exchange.MESSAGE)
    orders["order"], orders["price"], orders["owner"] = 1 + np.arange(100), 20, 6
    for _ in range(2):
        flow.adopt(np.array([1]), orders)
        sent = flow.act(np.array([0, 1]), math.inf, np.random.default_rng(1).random((2, 50, 3)), 1000)
        cancelled = sent[sent["kind"] == Kind.CANCEL]
        assert 45 < len(cancelled) <= 50
        assert len(set(cancelled["order"].tolist())) == len(cancelled)
        assert set(cancelled["owner"].tolist()) == {6}
    assert flow.books["count"].tolist() == [0, 100 - len(cancelled)]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"limit_orders": (1.0, -1.0)}, "limit_orders must not be negative"),
        ({"cancellations": (-1.0,)}, "cancellations must not be negative"),
        ({"limit_orders": (0.0,), "tail": None, "market_orders": 0}, "give one of them a rate"),
        ({"tail": {"furthest": 3}}, "tail.furthest lies within limit_orders; raise it, or set tail to null"),
    ],
)
def test_rates_that_make_no_sense_are_refused(change: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError, match=line):
        ZeroIntelligenceConfig(**change)


def test_the_tail_follows_the_listed_rates() -> None:
    by_step = np.diff(ZeroIntelligenceConfig().rates(1, 1000).within, prepend=0.0)
    assert by_step[:5] == pytest.approx([1.85, 1.51, 1.09, 0.88, 0.77])
    assert by_step[5:] == pytest.approx([1.92 / i**0.52 for i in range(6, 21)])


# ------------------------------------------------------------------------------------------------------------ a run


def alone(**config: Any) -> tuple[abm.Market, ZeroIntelligenceTraders]:
    """A market of an hour in which nobody else trades."""
    scenario = abm.Scenario.model_validate(
        {
            "name": "alone",
            "clock": {"start": "2026-02-05T00:00Z", "end": "2026-02-05T01:00Z"},
            "instruments": {"btc-spot": {"tick": 0.01, "lot": 0.0001, "max_price": 250_000, "reference_price": 73_100}},
            "traders": {"zero_intelligence": config},
        }
    )
    market = abm.Market(scenario)
    (traders,) = market.populations
    assert isinstance(traders, ZeroIntelligenceTraders)
    return market, traders


def test_in_a_run_it_sends_each_kind_at_its_rate_and_cancels_what_rests() -> None:
    told = {"limit_orders": [30.0, 20.0], "tail": None, "market_orders": 10.0, "cancellations": [0.5], "step_ticks": 50}
    market, traders = alone(**told)
    sent: list[tuple[int, int]] = []
    decide = traders.decide

    def note(view: Any) -> Records | None:
        messages = decide(view)
        if messages is not None:
            sent.extend(zip(messages["kind"].tolist(), messages["side"].tolist(), strict=True))
        return messages

    traders.decide = note  # type: ignore[method-assign]
    market.run_for(3600)
    for kind, rate in ((Kind.LIMIT, 50.0), (Kind.MARKET, 10.0)):
        for side in (Side.BUY, Side.SELL):
            assert sent.count((kind, side)) == pytest.approx(60 * rate, abs=4 * (60 * rate) ** 0.5)
    result = market.result()
    assert result.audit.passed
    # Too late comes only a cancellation that crosses a trade of the same second
    assert set(result.summary["rejects"]) <= {"order_done"}
    assert sum(result.summary["rejects"].values()) < 0.02 * sum(kind == Kind.CANCEL for kind, _ in sent)
    live = sum(len(market.exchange.open_orders(int(row))) for row in traders.rows)
    cancelled = sum(kind == Kind.CANCEL for kind, _ in sent)
    # Those at rest leave at .5 a minute each: limits in, trades and cancellations out
    assert live == pytest.approx(2 * (50 - 10) / 0.5, rel=0.35)
    assert cancelled == pytest.approx(60 * 2 * (50 - 10), rel=0.1)
    assert set(result.flows["reason"]) == {"noise"}
    spread = market.view()["btc-spot"].spread_bps
    assert spread is not None
    assert 0 < spread < 1


def test_the_same_seed_gives_the_same_run() -> None:
    def hashed(**config: Any) -> str:
        market, _ = alone(**config)
        market.run_for(600)
        return str(market.result().summary["event_log_hash"])

    assert hashed() == hashed()
    assert hashed() != hashed(market_orders=0.95)
