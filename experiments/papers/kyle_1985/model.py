"""Rounds of call auctions in which an insider hides among noise traders and a market maker offers a price for every order flow."""

from collections.abc import Callable, Mapping
from math import ceil, sqrt
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from abm.agents.informed import Equilibrium, equilibrium
from abm.exchange import ANONYMOUS, MESSAGE, Exchange, Instrument, Kind, Phase, Side, TimeInForce, What
from abm.exchange.messages import Records, join
from abm.random import stream
from experiments.papers import Estimate, Measured, Parameters, Progress

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MAKER, INSIDER, NOISE = 0, 1, 2
"""Accounts: the market maker, the insider, and the first noise trader."""

BOOKS, WAVES = 500, 10
"""Rounds that an exchange serves at the same time, each on a book of its own, and how often it does before a new one takes its place."""

REACH = 6.0
"""Standard deviations of the order flow that the market maker offers a price for."""

DISTURBED = "orders or prices that are not as the market maker's offer has them"


class Config(Parameters):
    """Parameters of the paper's model."""

    QUICK_RUNS: ClassVar[int] = 5_000

    runs: int = Field(100_000, ge=10, le=10_000_000, description="rounds for each number of auctions")
    auctions: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(
        (1, 2, 10), min_length=1, description="numbers of auctions in a round: N"
    )
    variance: float = Field(1.0, gt=0, description="of the value before the first auction, currency squared: Sigma0")
    noise: float = Field(
        1.0, gt=0, description="standard deviation of what noise traders send in a round, units: sigma_u"
    )
    noise_traders: int = Field(3, ge=1, le=100, description="noise traders; each sends an order in each auction")
    price: float = Field(100.0, gt=0, description="expected value, currency: p0")
    step: float = Field(
        0.05,
        ge=0.005,
        le=0.2,
        description="between two of the market maker's prices, in standard deviations of the value",
    )
    lot: float = Field(0.0001, gt=0, le=0.01, description="smallest quantity, in standard deviations of the noise")

    @model_validator(mode="after")
    def _stays_positive(self) -> "Config":
        if self.price < 10 * sqrt(self.variance):
            raise ValueError("price must be at least 10 x sqrt(variance), or a value may fall below zero")
        if self.lot > self.step / 5:
            raise ValueError("lot must be at most a fifth of step, or the market maker cannot offer its prices in lots")
        return self

    @property
    def tick(self) -> float:
        """Smallest price step in currency: half of the market maker's."""
        return self.step * sqrt(self.variance) / 2

    @property
    def unit(self) -> float:
        """Units in a lot."""
        return self.lot * self.noise

    @property
    def top(self) -> int:
        """Price at which each round begins, in ticks."""
        return round(self.price / self.tick)


def exact(config: Config) -> Mapping[str, float]:
    """What the equilibrium says for these parameters."""
    found: dict[str, float] = {}
    for count in config.auctions:
        solved = equilibrium(count, config.variance, config.noise)
        for n, impact in enumerate(solved.impact):
            moved, learnt = slopes(count, n)
            found[moved] = found[learnt] = float(impact)
        left, profit = totals(count)
        found[left], found[profit] = float(solved.variance[-1]), solved.profit
    return found | {DISTURBED: 0.0}


def slopes(count: int, n: int) -> tuple[str, str]:
    """Names of an auction's two slopes on its order flow; the first auction is 0."""
    row = "one auction: lambda" if count == 1 else f"{count} auctions: lambda_{n + 1}"
    return f"{row}, price on order flow", f"{row}, value on order flow"


def totals(count: int) -> tuple[str, str]:
    """Names of what a round comes to."""
    row = "one auction" if count == 1 else f"{count} auctions"
    return f"{row}: variance left", f"{row}: insider's profit"


# ------------------------------------------------------------------------------------------------------------- the runs


class Rounds(NamedTuple):
    """What rounds came to: arrays over rounds, and over rounds and auctions."""

    value: Floats
    price: Floats
    """Before each auction and after the last; rounds x (auctions + 1)."""
    flow: Floats
    """Units bought less units sold by insider and noise traders; rounds x auctions."""
    profit: Floats
    faults: int


def measure(config: Config, progress: Progress) -> Measured:
    """All numbers of auctions; what is drawn are the rounds of each."""
    estimates: dict[str, Estimate] = {}
    drawn: dict[int, Rounds] = {}
    for done, count in enumerate(config.auctions):
        found = drawn[count] = played(
            config, count, lambda n, done=done: progress(done * config.runs + n, len(config.auctions) * config.runs)
        )
        for n in range(count):
            moved, learnt = slopes(count, n)
            flow, before = found.flow[:, n], found.price[:, n]
            estimates[moved] = _slope(flow, found.price[:, n + 1] - before)
            estimates[learnt] = _slope(flow, found.value - before)
        left, profit = totals(count)
        estimates[left] = Estimate.mean((found.value - found.price[:, -1]) ** 2)
        estimates[profit] = Estimate.mean(found.profit)
    return Measured(estimates | {DISTURBED: Estimate(sum(found.faults for found in drawn.values()))}, drawn)


def _slope(x: Floats, y: Floats) -> Estimate:
    """Slope of the regression of y on x with a constant, and its standard error."""
    across, up = x - x.mean(), y - y.mean()
    slope = float(across @ up / (across @ across))
    rest = up - slope * across
    return Estimate(slope, sqrt(float(rest @ rest) / (len(x) - 2) / float(across @ across)))


def played(config: Config, count: int, progress: Callable[[int], None] = lambda _: None) -> Rounds:
    """As many rounds as there are runs, each of `count` auctions."""
    solved = equilibrium(count, config.variance, config.noise)
    books = [_instrument(config, book) for book in range(min(BOOKS, config.runs))]
    values, crowd = (stream(config.seed, f"{count} auctions", purpose) for purpose in ("value", "noise"))
    parts: list[Rounds] = []
    for wave, first in enumerate(range(0, config.runs, BOOKS)):
        if wave % WAVES == 0:
            exchange = Exchange(books, accounts=NOISE + config.noise_traders)
        size = min(BOOKS, config.runs - first)
        value = config.price + sqrt(config.variance) * values.standard_normal(size)
        spread = config.noise / sqrt(count * config.noise_traders)
        noise = spread * crowd.standard_normal((count, config.noise_traders, size))
        parts.append(rounds(config, exchange, solved, value, noise))
        progress(first + size)
    *columns, faults = zip(*parts, strict=True)
    return Rounds(*map(np.concatenate, columns), sum(faults))


def rounds(config: Config, exchange: Exchange, solved: Equilibrium, value: Floats, noise: Floats) -> Rounds:
    """A round on each of the first books of an exchange.

    Args:
        config: Parameters.
        exchange: Its instruments are in a call, and stay there.
        solved: What the insider and the market maker go by.
        value: Of each book, currency.
        noise: Units that noise traders want, bought where positive; auctions x traders x books.
    """
    size, tick, unit = len(value), config.tick, config.unit
    ticks = np.full(size, config.top, np.int64)
    prices, flows, cash, faults = [ticks], [], np.zeros(size), 0
    held = exchange.accounts.position[INSIDER, :size].copy()
    exchange.match(_messages(size, kind=Kind.REFERENCE, owner=ANONYMOUS, price=ticks, instrument=np.arange(size)))
    known = (config.variance, *solved.variance)
    for n, (intensity, impact) in enumerate(zip(solved.intensity, solved.impact, strict=True)):
        insider = np.rint(intensity * (value - ticks * tick) / unit)
        lots = np.concatenate((insider[None], np.rint(noise[n] / unit))).astype(np.int64)
        deviation = sqrt(intensity**2 * known[n] + config.noise**2 / len(noise))
        report = exchange.match(_auction(exchange, ticks, _offered(config, impact, deviation), lots))
        crossed = report.events[report.events["what"] == What.UNCROSSED]
        ticks = np.where(crossed["quantity"] > 0, crossed["price"], ticks)
        cash += _received(report.trades, size) * tick * unit
        prices.append(ticks)
        flows.append(lots.sum(axis=0) * unit)
        # The offer is exact to half of its step, and to the lot that each of its prices is rounded to
        off = np.abs((ticks - prices[-2]) * tick - impact * flows[-1]) > tick + impact * unit
        refused = (report.outcomes["reject"] > 0).sum() + (report.events["what"] == What.AUCTION_CANCELLED).sum()
        faults += int(off.sum() + refused)
    bought = (exchange.accounts.position[INSIDER, :size] - held) * unit
    return Rounds(value, np.stack(prices, axis=1) * tick, np.stack(flows, axis=1), cash + bought * value, faults)


def _instrument(config: Config, book: int) -> Instrument:
    """A book on which positions are kept and nothing has to be paid for: nobody in the model is short of cash."""
    return Instrument(
        name=f"book-{book}",
        kind="future",
        tick=config.tick,
        lot=config.unit,
        max_price=2 * config.price,
        opening="call",
    )


def _offered(config: Config, impact: float, deviation: float) -> Ints:
    """Lots that the market maker offers, and bids for, at each of its prices away from the last one: 1, 3, 5 ... ticks.

    They add up to the flow at which p + lambda y is half-way to its next price. So the auction's price is p + lambda y, rounded to the
    nearest of them.
    """
    levels = ceil(REACH * impact * deviation / (2 * config.tick)) + 1
    reaches = np.rint(2 * config.tick / impact / config.unit * np.arange(levels + 1)).astype(np.int64)
    return np.diff(reaches)


def _auction(exchange: Exchange, ticks: Ints, offered: Ints, lots: Ints) -> Records:
    """The messages of one auction in each book.

    Args:
        exchange: Gives the ids.
        ticks: Price of the last auction in each book.
        offered: Lots at each of the market maker's prices away from it.
        lots: Market orders of the insider (first) and the noise traders, bought where positive; traders x books.
    """
    books, levels = len(ticks), len(offered)
    away = np.concatenate((2 * np.arange(levels) + 1, -2 * np.arange(levels) - 1))
    offer = _messages(
        books * 2 * levels,
        owner=MAKER,
        side=np.tile(np.repeat((Side.SELL, Side.BUY), levels), books),
        price=(ticks[:, None] + away).ravel(),
        quantity=np.tile(offered, 2 * books),
        instrument=np.repeat(np.arange(books), 2 * levels),
    )
    trader, book = np.nonzero(lots)
    sent = lots[trader, book]
    orders = _messages(
        len(sent),
        kind=Kind.MARKET,
        tif=TimeInForce.IOC,
        owner=np.where(trader == 0, INSIDER, NOISE + trader - 1),
        side=np.where(sent > 0, Side.BUY, Side.SELL),
        quantity=np.abs(sent),
        instrument=book,
    )
    for part in (offer, orders):
        part["order"] = exchange.take_ids(len(part)) + np.arange(len(part))
    withdrawal = _messages(1, kind=Kind.MASS_CANCEL, owner=MAKER, instrument=-1)
    calls = _messages(books, kind=Kind.UNCROSS, owner=ANONYMOUS, side=Phase.CALL, instrument=np.arange(books))
    return join([withdrawal, offer, orders, calls])


def _messages(count: int, **fields: Any) -> Records:
    """Messages of one moment; limit orders unless said otherwise."""
    messages = np.zeros(count, MESSAGE)
    for name, values in fields.items():
        messages[name] = values
    return messages


def _received(trades: Records, books: int) -> Floats:
    """What the insider was paid less what it paid, in ticks x lots, by book. In an auction the taker is who buys."""
    amount = trades["price"].astype(np.float64) * trades["quantity"]
    sold, bought = trades["maker_owner"] == INSIDER, trades["taker_owner"] == INSIDER
    return np.bincount(trades["instrument"], np.where(sold, amount, 0) - np.where(bought, amount, 0), books)
