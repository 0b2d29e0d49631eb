"""Cascades of liquidations on a flat book, run through the exchange and its clearing house. The README says how and why so."""

from collections.abc import Mapping
from math import ceil, exp, floor, log, sqrt
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from scipy.special import gammaln

from abm.clearing import ClearingHouse
from abm.clearing.rules import Bracket, Liquidation, Margin, Mark, initial_rate
from abm.exchange import ANONYMOUS, MESSAGE, Exchange, Instrument, Kind, Side, TimeInForce
from abm.exchange.description import PPM
from abm.exchange.messages import Forced, Records
from abm.random import stream
from experiments.papers import Estimate, Measured, Parameters, Progress

Ints = npt.NDArray[np.int64]

PERP = "btc-perp"
TICK, LOT = 0.01, 0.1
MAKER, OUTSIDER, FIRST = 0, 1, 2
"""Accounts: who makes the book, who sells from outside, and from which on they hold positions that can be liquidated."""

WEALTH = 1e12
"""Cash of those who must never run short, in currency."""

DISTURBED = "cascades that the book or the fund disturbed"


class Config(Parameters):
    """Parameters of the cascades; the density of liquidation levels is `ratio / step` per tick."""

    QUICK_RUNS: ClassVar[int] = 5_000

    runs: int = Field(100_000, ge=100, le=10_000_000, description="cascades at each ratio")
    ratios: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.5, 0.8, 0.9, 0.95),
        min_length=1,
        description="liquidations that one sets off on average: R = density x kappa x q",
    )
    start: int = Field(1, ge=1, le=10, description="liquidations that begin a cascade: n0")
    large: int = Field(50, ge=2, description="size from which on a cascade counts as large")
    price: float = Field(80_000.0, gt=1_000, lt=100_000, description="mark at the beginning, in currency")
    fall: float = Field(0.04, gt=0, lt=0.5, description="part of the price over which liquidation levels lie")
    leverage: float = Field(5.0, gt=1, le=100, description="of the positions")
    maintenance: float = Field(0.1, gt=0, lt=0.5, description="maintenance margin, fraction of the notional")
    step: int = Field(2, ge=1, le=100, description="ticks by which one liquidation moves the mark")
    depth: int = Field(1, ge=1, le=20, description="lots at each tick of the book")

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if self.distance < 0.02:
            raise ValueError("maintenance must be further below 1 / leverage, or positions are due as they open")
        if self.fall * (1 + self.maintenance) > 0.9 * self.maintenance:  # the best bid falls twice as fast as the mark
            raise ValueError(
                "fall must stay below 0.9 x maintenance / (1 + maintenance), or the book falls below bankruptcy prices"
            )
        for ratio in self.ratios:
            if self.shocks(ratio) < 1:
                raise ValueError(
                    f"ratios: cascades at {ratio:g} are too long for a fall of {self.fall:g}; raise fall or price"
                )
        return self

    @property
    def initial(self) -> float:
        """1 / leverage as the clearing house counts it: in millionths, rounded up."""
        return initial_rate(self.leverage) / PPM

    @property
    def distance(self) -> float:
        """How far the liquidation price of a long lies below its entry, as a fraction of the entry."""
        return 1 - (1 - self.initial) / (1 - self.maintenance)

    @property
    def size(self) -> int:
        """Lots of a position: as many bids as move the mark, the middle of best bid and best ask, by `step` ticks."""
        return 2 * self.step * self.depth

    @property
    def top(self) -> int:
        """First mark, in ticks."""
        return round(self.price / TICK)

    @property
    def territory(self) -> int:
        """Ticks below the first mark over which levels lie."""
        return floor(self.fall * self.top)

    def shocks(self, ratio: float) -> int:
        """Most sales from outside that leave room for the last cascade: ten standard deviations, and a cascade of chance e^-25."""
        started = self.start * ratio / self.step
        second = ratio / (1 - ratio) ** 3 + 1 / (1 - ratio) ** 2  # of the total that one liquidation leads to
        mean = self.start + self.step * started / (1 - ratio)
        deviation = self.step * sqrt(started * second)
        room = self.territory - self.step * (25 / (ratio - 1 - log(ratio)) + 100)
        if room <= 0:
            return 0
        root = (sqrt((10 * deviation) ** 2 + 4 * mean * room) - 10 * deviation) / (2 * mean)
        return floor(root**2)


# --------------------------------------------------------------------------------------------------------- closed forms


def borel_tanner(total: npt.ArrayLike, ratio: float, start: int = 1) -> npt.NDArray[np.float64]:
    """P(k) = (n0 / k) exp(-R k) (R k)^(k - n0) / (k - n0)! of a total k >= n0 (Tanner 1961)."""
    k = np.asarray(total, np.float64)
    logarithm = log(start) - np.log(k) - ratio * k + (k - start) * np.log(ratio * k) - gammaln(k - start + 1)
    chances: npt.NDArray[np.float64] = np.exp(logarithm)
    return chances


def at_least(total: int, ratio: float, start: int = 1) -> float:
    """Probability that the total is at least so much."""
    return float(1 - borel_tanner(np.arange(start, total), ratio, start).sum()) if total > start else 1.0


def exact(config: Config) -> Mapping[str, float]:
    """What the closed forms say for these parameters."""
    found: dict[str, float] = {}
    for ratio in config.ratios:
        mean, smallest, large = _names(config, ratio)
        found[mean] = config.start / (1 - ratio)
        found[smallest] = exp(-ratio * config.start)
        found[large] = at_least(config.large, ratio, config.start)
    bankrupt = {"long": config.price * (1 - config.initial), "short": config.price * (1 + config.initial)}
    for side, sign in (("long", -1), ("short", 1)):
        found[f"{side}: bankruptcy price"] = bankrupt[side]
        found[f"{side}: liquidation price"] = bankrupt[side] / (1 + sign * config.maintenance)
    return found | {DISTURBED: 0.0} | water_filling()


def _names(config: Config, ratio: float) -> tuple[str, str, str]:
    return (
        f"mean total at R = {ratio:g}",
        f"P(total = {config.start}) at R = {ratio:g}",
        f"P(total >= {config.large}) at R = {ratio:g}",
    )


# ------------------------------------------------------------------------------------------------------------- cascades


def measure(config: Config, progress: Progress) -> Measured:
    """All three parts; what is drawn are the totals of the cascades by ratio."""
    estimates: dict[str, Estimate] = {}
    totals: dict[float, Ints] = {}
    faults = 0
    for done, ratio in enumerate(config.ratios):
        found = cascades(
            config, ratio, lambda n, done=done: progress(done * config.runs + n, len(config.ratios) * config.runs)
        )
        sizes = totals[ratio] = found.totals
        faults += found.faults
        mean, smallest, large = _names(config, ratio)
        estimates[mean] = Estimate.mean(sizes)
        estimates[smallest] = Estimate.share(int((sizes == config.start).sum()), len(sizes))
        estimates[large] = Estimate.share(int((sizes >= config.large).sum()), len(sizes))
    estimates[DISTURBED] = Estimate(faults)
    return Measured(estimates | prices(config) | deleveraging(), totals)


class Cascades(NamedTuple):
    """Totals of the cascades that began with `start` liquidations, and how much was not as the model has it."""

    totals: Ints
    faults: int


def cascades(config: Config, ratio: float, progress: Any = lambda _: None) -> Cascades:
    """As many cascades as there are runs, on one exchange after the other."""
    parts: list[Ints] = []
    faults = found = world = 0
    while found < config.runs:
        rng = stream(config.seed, f"ratio {ratio:g}", f"levels {world}")
        count = rng.poisson(ratio / config.step * config.territory)
        levels = config.top - 1 - np.floor(rng.uniform(0, config.territory, count)).astype(np.int64)
        started, totals, wrong = fall(config, levels, config.shocks(ratio))
        parts.append(totals[started == config.start])
        found += len(parts[-1])
        faults += wrong
        world += 1
        progress(min(found, config.runs))
    return Cascades(np.concatenate(parts)[: config.runs], faults)


def fall(config: Config, levels: Ints, shocks: int) -> tuple[Ints, Ints, int]:
    """Let the price of one exchange fall through levels, by sales from outside and what they set off.

    Args:
        config: Parameters.
        levels: Mark in ticks at which each position is to be liquidated.
        shocks: Number of sales. Each moves the mark by `start` ticks.

    Returns:
        For each sale the liquidations it set off itself, and all that followed; and the number of faults: orders that were not filled at
        once and whole, marks or liquidation prices off their tick, or 1 where the price left the levels.
    """
    exchange, house = opened(config, levels)
    prices = np.floor(house.liquidation_prices(PERP)[FIRST : FIRST + len(levels)] / TICK + 0.5)
    before = exchange.messages
    sale = 2 * config.start * config.depth
    report = exchange.match(
        _orders(exchange, shocks, kind=Kind.MARKET, tif=TimeInForce.IOC, owner=OUTSIDER, side=Side.SELL, quantity=sale)
    )
    forced = report.liquidations
    shock = forced["message"] - before
    started = np.bincount(shock[forced["parent"] == 0], minlength=shocks)
    totals = np.bincount(shock, minlength=shocks)
    mark = int(exchange.view().mark[0])
    faults = int((prices != levels).sum())
    faults += int(((forced["what"] != Forced.LIQUIDATED) | (forced["quantity"] != config.size)).sum())
    faults += abs(mark - (config.top - config.start * shocks - config.step * len(forced)))
    faults += int(mark - config.step <= config.top - config.territory)
    return started, totals, faults


def opened(config: Config, levels: Ints) -> tuple[Exchange, ClearingHouse]:
    """An exchange with a position for each level, bought at the price that puts its liquidation there, and with the flat book."""
    exchange = Exchange([_perpetual(config)], accounts=FIRST + len(levels), ledger=True)
    house = ClearingHouse(exchange)
    everyone = np.arange(FIRST, FIRST + len(levels), dtype=np.int32)
    house.credit(np.arange(FIRST, dtype=np.int32), "opening", cash=WEALTH)
    house.credit(everyone, "opening", cash=2 * config.price * config.size * LOT)
    house.set_terms(everyone, PERP, config.leverage, True)

    # A hundredth of a tick more: margins are rounded to the account's loss
    entry = np.ceil(levels / (1 - config.distance) + 0.01).astype(np.int64)
    opening = _orders(exchange, 2 * len(levels), quantity=config.size, price=np.repeat(entry, 2))
    opening["owner"][0::2], opening["side"][0::2] = MAKER, Side.SELL
    opening["owner"][1::2], opening["side"][1::2] = everyone, Side.BUY
    exchange.match(opening)

    # The mark stays where it is until there are bids and an offer
    bids = 2 * config.territory
    book = _orders(exchange, bids + 1, owner=MAKER, quantity=config.depth, price=config.top - 1 - np.arange(bids + 1))
    book["price"][-1], book["side"][-1] = config.top + 1, Side.SELL
    exchange.match(book)
    return exchange, house


def _perpetual(config: Config) -> Instrument:
    return Instrument(
        name=PERP,
        kind="perpetual",
        tick=TICK,
        lot=LOT,
        max_price=250_000,
        reference_price=config.price,
        margin=Margin(
            brackets=(Bracket(leverage=config.leverage, maintenance=config.maintenance),),
            mark=Mark(),
            liquidation=Liquidation(style="full"),
        ),
    )


def _orders(exchange: Exchange, count: int, **fields: Any) -> Records:
    """Limit buys unless said otherwise, at the time of the latest message."""
    orders = np.zeros(count, MESSAGE)
    orders["time"] = max(exchange.time, 0)
    orders["order"] = exchange.take_ids(count) + np.arange(count)
    for name, values in fields.items():
        orders[name] = values
    return orders


# --------------------------------------------------------------------------------- prices of liquidation and bankruptcy


def prices(config: Config) -> dict[str, Estimate]:
    """Where a long and a short position are liquidated as the operator moves the mark tick by tick, and the limits of their orders."""
    margin = Margin(
        brackets=(Bracket(leverage=config.leverage, maintenance=config.maintenance),),
        mark="operator",
        liquidation=Liquidation(style="full"),
    )
    found: dict[str, Estimate] = {}
    for side, name in ((Side.BUY, "long"), (Side.SELL, "short")):
        exchange = Exchange([_perpetual(config).model_copy(update={"margin": margin})], accounts=FIRST + 1, ledger=True)
        house = ClearingHouse(exchange)
        for owner in (MAKER, FIRST):
            house.credit(np.array([owner], np.int32), "opening", cash=WEALTH)
        house.set_terms(np.array([FIRST], np.int32), PERP, config.leverage, True)
        exchange.match(
            _orders(exchange, 2, owner=[MAKER, FIRST], side=[1 - side, side], quantity=config.size, price=config.top)
        )
        near = round(exact(config)[f"{name}: liquidation price"] / TICK)
        towards = -1 if side == Side.BUY else 1
        marks = _orders(exchange, 7, kind=Kind.MARK, owner=ANONYMOUS, order=0, price=near + towards * np.arange(-3, 4))
        first = exchange.match(marks).liquidations[0]
        found[f"{name}: bankruptcy price"] = Estimate(float(first["limit"]) * TICK)
        found[f"{name}: liquidation price"] = Estimate(float(first["mark"]) * TICK)
    return found


# --------------------------------------------------------------------------------------------------- auto-deleveraging

SHORTS, EQUITIES, MARK, BANKRUPT = (10, 6, 4, 8, 2), (100, 150, 20, 400, 100), 100, 9
"""The example: positions, their equities at the mark, and what has to be taken over."""

WHOLE = 10**10
"""Lots of one unit of the example, so that rounding to lots is far below what is asked."""


def water_filling() -> dict[str, float]:
    """The least greatest leverage L for which d_i = max(0, q_i - L E_i / p) add up to Q (Campbell, Hey, Moallemi, Nutz 2026)."""
    held, equity = np.array(SHORTS, float), np.array(EQUITIES, float)
    order = np.argsort(-held / equity)
    for count in range(1, len(order) + 1):
        taken = order[:count]
        leverage = float((held[taken].sum() - BANKRUPT) * MARK / equity[taken].sum())
        if count == len(order) or leverage >= held[order[count]] * MARK / equity[order[count]]:
            break
    gone = np.maximum(0, held - leverage * equity / MARK)
    return {"deleveraging: greatest leverage left": leverage} | {
        f"deleveraging: taken from position {i}": float(lots) for i, lots in enumerate(gone, 1)
    }


def deleveraging() -> dict[str, Estimate]:
    """The example through the clearing house: shorts of these leverages, and a long that nobody in the book takes."""
    perpetual = Instrument(
        name=PERP,
        kind="perpetual",
        tick=1.0,
        lot=1e-6,
        max_price=1_000,
        max_order=1e9,
        reference_price=MARK,
        margin=Margin(
            brackets=(Bracket(leverage=20, maintenance=0.01),),
            mark="operator",
            liquidation=Liquidation(style="full", takes_over=False, deficit="water"),
        ),
    )
    count = len(SHORTS)
    long, shorts = FIRST, np.arange(FIRST + 1, FIRST + 1 + count, dtype=np.int32)
    exchange = Exchange([perpetual], accounts=FIRST + 1 + count, ledger=True)
    house = ClearingHouse(exchange)
    house.credit(np.array([MAKER, long, *shorts], np.int32), "opening", cash=WEALTH)
    house.set_terms(np.array([long], np.int32), PERP, 20, True)
    house.set_terms(shorts, PERP, np.array(SHORTS) * MARK / np.array(EQUITIES), True)

    lots = np.array(SHORTS) * WHOLE
    entries = _orders(exchange, 2 * count, price=MARK, quantity=np.repeat(lots, 2))
    entries["owner"][0::2] = MAKER
    entries["owner"][1::2], entries["side"][1::2] = shorts, Side.SELL
    exchange.match(entries)
    # Who buys so far above the mark is due at once, and there are no bids
    late = _orders(
        exchange, 2, owner=[MAKER, long], side=[Side.SELL, Side.BUY], price=ceil(1.05 * MARK), quantity=BANKRUPT * WHOLE
    )
    forced = exchange.match(late).liquidations
    transfers = forced[forced["what"] == Forced.DELEVERAGED]
    taken = np.array([transfers["quantity"][transfers["counterparty"] == short].sum() for short in shorts], np.float64)
    left = (np.array(SHORTS) - taken / WHOLE) * MARK / np.array(EQUITIES)
    return {"deleveraging: greatest leverage left": Estimate(float(left.max()))} | {
        f"deleveraging: taken from position {i}": Estimate(float(each) / WHOLE) for i, each in enumerate(taken, 1)
    }
