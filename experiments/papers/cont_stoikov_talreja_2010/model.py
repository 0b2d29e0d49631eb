"""Races to the first move of the mid, run on real books by the zero-intelligence traders. The README says how and why so."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from scipy.linalg import solve_sylvester

from abm.agents.zero_intelligence import OrderFlow, Tail, ZeroIntelligenceConfig
from abm.exchange import MESSAGE, Exchange, Instrument, Kind, Side
from abm.exchange.messages import Records, join
from abm.random import stream
from experiments.papers import Estimate, Measured, Parameters, Progress

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Rate = Annotated[float, Field(ge=0, le=1e6)]

MOVES, EXECUTES, PRINTED = "mid moves up", "bid order executes first", "Table 4 as printed: mid moves first"
LONGEST = 400
"""Orders beyond which a best queue is not followed."""


class Config(Parameters):
    """Rates a minute, as the paper estimates them, and the states that races start from."""

    QUICK_RUNS: ClassVar[int] = 2_000

    runs: int = Field(200_000, ge=100, le=100_000_000, description="races from each state, for each of the two tables")
    limit_orders: tuple[Rate, ...] = Field(
        (1.85, 1.51, 1.09, 0.88, 0.77), min_length=1, description="lambda(1), lambda(2), ... of one side"
    )
    tail_rate: float = Field(1.92, gt=0, description="k of lambda(i) = k / i^exponent at distances beyond those")
    tail_exponent: float = Field(0.52, ge=0, le=10, description="exponent of lambda(i) beyond those")
    furthest: int = Field(5, ge=1, le=100, description="ticks from the opposite best quote beyond which none is sent")
    cancellations: tuple[Rate, ...] = Field(
        (0.71, 0.81, 0.68, 0.56, 0.47), min_length=1, description="theta(1), theta(2), ...; the last holds beyond"
    )
    market_orders: float = Field(0.94, gt=0, le=1e6, description="mu of one side")
    queues: int = Field(5, ge=1, le=20, description="states: 1 .. queues orders at the best bid and at the best ask")
    books: int = Field(1000, ge=1, le=32_000, description="books that race at the same time; changes the draws only")

    @model_validator(mode="after")
    def _ends(self) -> "Config":
        if self.furthest < len(self.limit_orders):
            raise ValueError("furthest lies within limit_orders; raise it or list fewer")
        if self.longest > LONGEST:
            raise ValueError(
                f"queues would grow beyond {LONGEST} orders; lower the first of limit_orders or raise that of cancellations"
            )
        return self

    @property
    def longest(self) -> int:
        """Orders that a best queue reaches, before it empties, with a probability below 10^-15 from the fullest state."""
        birth, n = self.limit_orders[0], np.arange(1, LONGEST + 2)
        if birth == 0:
            return self.queues
        # The chance to reach n before 0 is a ratio of such sums (gambler's ruin)
        ratios = np.cumsum(np.log((self.market_orders + n * self.cancellations[0]) / birth))
        sums = np.logaddexp.accumulate(np.concatenate(([0.0], ratios)))
        return int(np.searchsorted(sums, sums[self.queues - 1] + 15 * np.log(10.0))) + 1

    @property
    def states(self) -> list[tuple[int, int]]:
        """Orders at the best bid and at the best ask."""
        return [(bid, ask) for bid in range(1, self.queues + 1) for ask in range(1, self.queues + 1)]

    @property
    def traders(self) -> ZeroIntelligenceConfig:
        """The paper's traders as a configuration of ours."""
        tail = Tail(rate=self.tail_rate, exponent=self.tail_exponent, furthest=self.furthest)
        return ZeroIntelligenceConfig(
            limit_orders=self.limit_orders,
            tail=tail,
            market_orders=self.market_orders,
            cancellations=self.cancellations,
        )


# -------------------------------------------------------------------------------------------------------- linear system


def queue(births: Floats, deaths: Floats) -> Floats:
    """Generator of a queue of 1 .. n orders until it empties; what a row lacks to 0 is the rate at which it does."""
    return np.diag(births[:-1], 1) + np.diag(deaths[1:], -1) - np.diag(np.append(births[:-1], 0.0) + deaths)


def ask_empties_first(bid: Floats, ask: Floats) -> Floats:
    """Probability that the second of two independent queues empties first, by the orders in each.

    First-passage probabilities h solve `(A h)(x, y) + (B h)(x, y) = -B's rate of emptying at y`, with A acting on x and B on y.
    """
    empties = -ask.sum(axis=1)
    solved: Floats = solve_sylvester(bid, ask.T, np.tile(-empties, (len(bid), 1)))
    return solved


def exact(config: Config) -> Mapping[str, float]:
    """Both tables from the linear system: at spread 1 the best queues are independent birth-death chains until one empties."""
    n = np.arange(1, config.longest + 1)
    births = np.full(len(n), config.limit_orders[0])
    best = queue(births, config.market_orders + n * config.cancellations[0])
    # Before the order that is not cancelled stand n - 1 that are; what comes behind it does not matter
    before = n[: config.queues]
    ahead = queue(np.zeros(len(before)), config.market_orders + (before - 1) * config.cancellations[0])
    up, mid_first = ask_empties_first(best, best), ask_empties_first(ahead, best)
    found: dict[str, float] = {}
    for bid, ask in config.states:
        found[name(MOVES, bid, ask)] = float(up[bid - 1, ask - 1])
        found[name(EXECUTES, bid, ask)] = 1.0 - float(mid_first[bid - 1, ask - 1])
        found[name(PRINTED, bid, ask)] = float(mid_first[ask - 1, bid - 1])
    return found


def name(what: str, bid: int, ask: int) -> str:
    """Name of a quantity: of the tables MOVES and EXECUTES by the state, of PRINTED by row and column."""
    return f"{what}, row {bid}, column {ask}" if what == PRINTED else f"{what}, bid {bid}, ask {ask}"


# ---------------------------------------------------------------------------------------------------------------- races


def measure(config: Config, progress: Progress) -> Measured:
    """Both tables from races; what is drawn are the estimates by table and state."""
    drawn: dict[str, dict[tuple[int, int], Estimate]] = {MOVES: {}, EXECUTES: {}}
    whole, done = 2 * len(config.states) * config.runs, 0
    for what, table in drawn.items():
        for state in config.states:
            wins = race(config, state, what, lambda n, done=done: progress(done + n, whole))
            table[state] = Estimate.share(wins, config.runs)
            done += config.runs
    estimates = {name(what, *state): found for what, table in drawn.items() for state, found in table.items()}
    for (bid, ask), (value, error) in drawn[EXECUTES].items():
        estimates[name(PRINTED, ask, bid)] = Estimate(1.0 - value, error)
    return Measured(estimates, drawn)


def race(config: Config, state: tuple[int, int], what: str, progress: Callable[[int], None] = lambda _: None) -> int:
    """Let as many books as there are runs go on to the first move of the mid, or to the execution of the order that is followed.

    A book whose race is over is emptied and starts the next one. Each book has one event in each round, on its own clock.

    Args:
        config: Parameters.
        state: Orders at the best bid and at the best ask.
        what: `MOVES` or `EXECUTES`.
        progress: Called with the races that are over.

    Returns:
        Races in which the mid moved up, or in which the bid order that came last was executed before the mid moved.
    """
    arena = _Arena(config, state, follow=what == EXECUTES)
    rng = stream(config.seed, what, f"bid {state[0]} ask {state[1]}")
    racing = starting = np.arange(min(config.books, config.runs))
    left, wins, over = config.runs - len(racing), 0, 0
    while len(racing):
        won, lost = arena.round(racing, starting, rng.random((len(racing), 1, 3)))
        ended = racing[won | lost]
        starting = ended[:left]
        racing = np.concatenate((racing[~(won | lost)], starting))
        left -= len(starting)
        wins += int(won.sum())
        over += len(ended)
        progress(over)
    return wins


class _Arena:
    """Books that start from one state, with the traders who drive them."""

    BID, TICKS = 127, 256  # best bid at the start of a race; the ask is one above. Distances are at most 100.

    def __init__(self, config: Config, state: tuple[int, int], follow: bool) -> None:
        count = min(config.books, config.runs)
        self._exchange = Exchange(_instruments(count))
        rates = config.traders.rates(1, self.TICKS)
        self._flow = OrderFlow(rates, np.arange(count), np.arange(count), self.BID)
        self._opening = _opening(*state)
        self._followed = state[0] if follow else 0  # place of the order within the opening
        self._known = np.delete(np.arange(len(self._opening)), [0, self._followed])
        self._order = np.zeros(count, np.int64)

    def round(self, racing: Ints, starting: Ints, luck: Floats) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """One event in each book that races, after the opening of those that start; which races are won, and which lost."""
        exchange, flow = self._exchange, self._flow
        opening = self._open(starting)
        events = flow.act(racing, np.inf, luck, exchange.take_ids(len(racing)))
        trades = exchange.match(join([opening, events])).trades
        quotes = exchange.view()
        flow.quote(quotes.best_bid, quotes.best_ask)
        up = quotes.best_ask[racing] != self.BID + 1
        if not self._followed:
            return up, quotes.best_bid[racing] != self.BID
        executed = np.zeros(len(self._order), np.bool_)
        executed[trades["instrument"]] = trades["maker"] == self._order[trades["instrument"]]
        return executed[racing], up

    def _open(self, which: Ints) -> Records:
        """Messages that empty some books and fill them again; the traders know of all these orders but the one that is followed."""
        messages = np.tile(self._opening, (len(which), 1))
        messages["instrument"] = messages["owner"] = which[:, np.newaxis]
        messages["order"] = self._exchange.take_ids(messages.size) + np.arange(messages.size).reshape(messages.shape)
        self._order[which] = messages["order"][:, self._followed]
        self._flow.adopt(which, messages[:, self._known])
        for side, price in (("bid", self.BID), ("ask", self.BID + 1)):
            self._flow.books[side][which] = price
        return messages.reshape(-1)


def _opening(bids: int, asks: int) -> Records:
    """What empties a book, then its best queues, then an order behind each, so that there is a mid after the move as well."""
    messages = np.zeros(1 + bids + asks + 2, MESSAGE)
    messages["kind"][0] = Kind.MASS_CANCEL
    messages["quantity"][1:] = 1
    messages["side"][1:] = np.repeat([Side.BUY, Side.SELL, Side.BUY, Side.SELL], [bids, asks, 1, 1])
    bid, ask = _Arena.BID, _Arena.BID + 1
    messages["price"][1:] = np.repeat([bid, ask, bid - 1, ask + 1], [bids, asks, 1, 1])
    return messages


@cache
def _instruments(count: int) -> tuple[Instrument, ...]:
    return tuple(
        Instrument(name=f"book-{number}", kind="perpetual", tick=1, lot=1, max_price=_Arena.TICKS)
        for number in range(count)
    )
