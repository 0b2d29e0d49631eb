"""A dealer's bids and offers on the exchange, filled by market orders that are the rarer the further away it quotes."""

from collections.abc import Callable, Mapping
from math import sqrt
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from abm.agents.quoting import fill_rate, optimal_spread, reservation_price
from abm.exchange import MESSAGE, Exchange, Instrument, Kind, Side, TimeInForce
from abm.exchange.messages import Records
from abm.random import stream
from experiments.papers import Estimate, Measured, Parameters, Progress

Floats = npt.NDArray[np.float64]
Strategy = Literal["inventory", "symmetric"]

STRATEGIES: tuple[Strategy, ...] = ("inventory", "symmetric")
DEALER, TAKER = 0, 1
"""Accounts: who quotes, and who trades with it."""

BOOKS = 500
"""Replications that one exchange serves, each with a book of its own."""

DISTURBED = "orders that the book did not take or fill as the model has it"


class Config(Parameters):
    """Parameters of the paper's section 3.3."""

    QUICK_RUNS: ClassVar[int] = 500

    runs: int = Field(10_000, ge=2, le=1_000_000, description="replications of each row")
    risk_aversions: tuple[Annotated[float, Field(gt=0, le=10)], ...] = Field(
        (0.1, 0.01, 1.0), min_length=1, description="of the dealer: gamma, per currency"
    )
    price: float = Field(100.0, gt=1, lt=10_000, description="mid price at the start, currency: s0")
    volatility: float = Field(2.0, gt=0, description="of the mid price, currency per square root of time: sigma")
    horizon: float = Field(1.0, gt=0, description="time at which the inventory is valued at the mid: T")
    dt: float = Field(0.005, gt=0, description="time between two quotes")
    inventory: int = Field(0, ge=-1000, le=1000, description="units held at the start: q0")
    scale: float = Field(140.0, gt=0, description="orders per unit of time at the mid: A")
    decay: float = Field(1.5, gt=0, description="of their rate with the distance, per currency: k")
    tick: float = Field(0.001, gt=0, le=0.1, description="smallest price step, currency")

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if abs(self.horizon / self.dt - self.steps) > 1e-9 * self.steps or self.steps < 1:
            raise ValueError("horizon must be a whole number of dt")
        if 6 * self.volatility * sqrt(self.horizon) > 0.5 * self.price:
            raise ValueError("price must exceed 12 x volatility x sqrt(horizon), or the mid comes near zero")
        return self

    @property
    def steps(self) -> int:
        """Number of times that the dealer quotes."""
        return round(self.horizon / self.dt)

    @property
    def move(self) -> float:
        """By how much the mid goes up or down in a step."""
        return self.volatility * sqrt(self.dt)


def quotes(config: Config, gamma: float, strategy: Strategy, step: int, inventory: Any) -> tuple[Any, Any]:
    """Distances of the bid below and of the ask above the mid, by the rules of the market-maker agent; currency."""
    remaining = config.horizon - step * config.dt
    if strategy == "symmetric":
        half = 0.5 * optimal_spread(gamma, config.volatility, 0.5 * config.horizon, config.decay)
        return half + 0.0 * inventory, half + 0.0 * inventory
    half = 0.5 * optimal_spread(gamma, config.volatility, remaining, config.decay)
    centre = reservation_price(0.0, inventory, gamma, config.volatility, remaining)
    return half - centre, half + centre


def fill_chance(config: Config, distance: Any) -> Any:
    """Chance that a quote at that distance trades within a step: literally lambda dt, and at most 1."""
    with np.errstate(over="ignore"):  # of a quote far beyond the mid the rate has no bound
        return np.minimum(1.0, fill_rate(distance, config.scale, config.decay) * config.dt)


# --------------------------------------------------------------------------------------------------------- exact values


def exact(config: Config) -> Mapping[str, float]:
    """Moments of every row by backward induction over the inventory, without a tick."""
    found: dict[str, float] = {}
    for gamma in config.risk_aversions:
        for strategy in STRATEGIES:
            spread, mean, deviation, inventory = names(gamma, strategy)
            found[spread] = float(
                np.mean([sum(quotes(config, gamma, strategy, step, 0.0)) for step in range(config.steps)])
            )
            found[mean], found[deviation], found[inventory] = moments(config, gamma, strategy)
    return found | {DISTURBED: 0.0}


def moments(config: Config, gamma: float, strategy: Strategy) -> tuple[float, float, float]:
    """Mean and standard deviation of the profit, and standard deviation of the last inventory.

    A fill earns its distance from the mid; the inventory after it gains or loses what the mid moves. So the profit is a sum along a
    Markov chain of inventories: its first two moments from the time t on are functions of the inventory alone.
    """
    reach = config.steps + 1
    held = config.inventory + np.arange(-reach, reach + 1, dtype=np.float64)
    first, second = np.zeros(len(held)), np.zeros(len(held))  # moments of the profit still to come
    last, last_square = held.copy(), held**2
    for step in reversed(range(config.steps)):
        bid, ask = quotes(config, gamma, strategy, step, held)
        buys, sells = fill_chance(config, bid), fill_chance(config, ask)
        expected = [np.zeros(len(held)) for _ in range(4)]
        for bought, sold in ((0, 0), (1, 0), (0, 1), (1, 1)):
            chance = np.where(bought, buys, 1 - buys) * np.where(sold, sells, 1 - sells)
            shift = bought - sold
            after = np.clip(np.arange(len(held)) + shift, 0, len(held) - 1)  # the ends are out of reach
            earned = bought * bid + sold * ask
            risk = (held[after] * config.move) ** 2
            expected[0] += chance * (earned + first[after])
            expected[1] += chance * (earned**2 + risk + 2 * earned * first[after] + second[after])
            expected[2] += chance * last[after]
            expected[3] += chance * last_square[after]
        first, second, last, last_square = expected
    at = reach
    deviation = sqrt(second[at] - first[at] ** 2)
    return float(first[at]), deviation, sqrt(last_square[at] - last[at] ** 2)


def names(gamma: float, strategy: Strategy) -> tuple[str, str, str, str]:
    """Quantities of one row of the paper's tables."""
    row = f"gamma = {gamma:g}, {strategy}"
    return f"{row}: mean spread", f"{row}: profit", f"{row}: sd of profit", f"{row}: sd of last inventory"


# ------------------------------------------------------------------------------------------------------------- the runs


class Outcomes(NamedTuple):
    """What the replications of one row came to; arrays with an entry for each."""

    profit: Floats
    inventory: Floats
    spread: float
    faults: int


def measure(config: Config, progress: Progress) -> Measured:
    """All rows; what is drawn are their outcomes by risk aversion and strategy. The paper's own figures stand beside ours."""
    estimates: dict[str, Estimate] = {}
    drawn: dict[tuple[float, Strategy], Outcomes] = {}
    rows = [(gamma, strategy) for gamma in config.risk_aversions for strategy in STRATEGIES]
    for done, (gamma, strategy) in enumerate(rows):
        found = drawn[gamma, strategy] = dealt(
            config,
            gamma,
            strategy,
            lambda runs, done=done: progress(done * config.runs + runs, len(rows) * config.runs),
        )
        spread, mean, deviation, inventory = names(gamma, strategy)
        estimates[spread] = Estimate(found.spread)
        estimates[mean] = Estimate.mean(found.profit)
        estimates[deviation] = _deviation(found.profit)
        estimates[inventory] = _deviation(found.inventory)
    printed = {f"{name}, as printed": value for name, value in estimates.items() if not name.endswith("spread")}
    faults = {DISTURBED: Estimate(sum(found.faults for found in drawn.values()))}
    return Measured(estimates | faults | printed, drawn)


def _deviation(sample: Floats) -> Estimate:
    """Standard deviation of a sample, and the standard error of it."""
    centred = sample - sample.mean()
    variance = float(centred.var(ddof=1))
    spread = float((centred**4).mean()) - variance**2
    return Estimate(sqrt(variance), sqrt(spread / (4 * variance * len(sample))) if variance > 0 else 0.0)


def dealt(
    config: Config, gamma: float, strategy: Strategy, progress: Callable[[int], None] = lambda _: None
) -> Outcomes:
    """The replications of one row, on one exchange after the other."""
    parts: list[Outcomes] = []
    for first in range(0, config.runs, BOOKS):
        count = min(BOOKS, config.runs - first)
        parts.append(day(config, gamma, strategy, count, f"batch {first // BOOKS}"))
        progress(first + count)
    profit, inventory, spread, faults = zip(*parts, strict=True)
    return Outcomes(np.concatenate(profit), np.concatenate(inventory), float(np.mean(spread)), sum(faults))


def day(config: Config, gamma: float, strategy: Strategy, count: int, batch: str) -> Outcomes:
    """One horizon of `count` replications, each on its own book of one exchange.

    In each step the dealer withdraws its quotes and sends new ones; where an order of somebody else is drawn, it is a market order of
    one unit, and the book decides what it trades with.
    """
    row = f"gamma {gamma:g} {strategy}"
    takers, moves = (stream(config.seed, row, f"{purpose} {batch}") for purpose in ("takers", "moves"))
    exchange = Exchange([_instrument(config, book) for book in range(count)], accounts=2)
    mid, cash = np.full(count, config.price), np.zeros(count)
    spreads, faults = 0.0, 0
    for step in range(config.steps):
        held = config.inventory + exchange.accounts.position[DEALER]
        bid, ask = quotes(config, gamma, strategy, step, held)
        prices = np.rint(np.stack((mid - bid, mid + ask)) / config.tick)
        away = np.stack((mid - prices[0] * config.tick, prices[1] * config.tick - mid))
        arrives = takers.random((2, count)) < fill_chance(config, away)
        report = exchange.match(_tape(exchange, step, prices, arrives))
        trades = report.trades
        sign = np.where(trades["aggressor"] == Side.BUY, 1.0, -1.0)
        cash += np.bincount(trades["instrument"], sign * trades["price"] * config.tick, count)
        expected = prices[np.where(trades["aggressor"] == Side.BUY, 1, 0), trades["instrument"]]
        faults += int((report.outcomes["reject"] > 0).sum() + (trades["price"] != expected).sum())
        faults += int(arrives.sum()) - len(trades)
        spreads += float((prices[1] - prices[0]).mean() * config.tick)
        mid += np.where(moves.random(count) < 0.5, config.move, -config.move)
    held = config.inventory + exchange.accounts.position[DEALER].astype(np.float64)
    profit = cash + held * mid - config.inventory * config.price
    return Outcomes(profit, held, spreads / config.steps, faults)


def _instrument(config: Config, book: int) -> Instrument:
    """A book on which positions are kept and nothing has to be paid for: the dealer has all the credit it needs."""
    return Instrument(name=f"book-{book}", kind="future", tick=config.tick, lot=1, max_price=2 * config.price)


def _tape(exchange: Exchange, step: int, prices: Floats, arrives: npt.NDArray[np.bool_]) -> Records:
    """A step's messages: the dealer's old quotes go, its new ones come, and then the orders that trade with them.

    Args:
        exchange: Gives the ids.
        step: Its time.
        prices: Bids and asks in ticks, 2 x books.
        arrives: Whether an order comes that trades with each.
    """
    count = prices.shape[1]
    side, book = np.nonzero(arrives)
    tape = np.zeros(1 + 2 * count + len(book), MESSAGE)
    tape["time"], tape["quantity"] = step, 1
    tape["kind"][0], tape["owner"][0], tape["instrument"][0] = Kind.MASS_CANCEL, DEALER, -1
    quoted, taken = tape[1 : 1 + 2 * count], tape[1 + 2 * count :]
    quoted["price"], quoted["side"] = prices.ravel(), np.repeat((Side.BUY, Side.SELL), count)
    quoted["instrument"], quoted["owner"] = np.tile(np.arange(count), 2), DEALER
    taken["kind"], taken["tif"], taken["owner"] = Kind.MARKET, TimeInForce.IOC, TAKER
    taken["instrument"], taken["side"] = book, np.where(side == 0, Side.SELL, Side.BUY)
    tape["order"][1:] = exchange.take_ids(len(tape) - 1) + np.arange(len(tape) - 1)
    return tape
