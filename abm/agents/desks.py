"""The compiled pass of the market makers: what all firms see, what each may hold, when it steps back, and what it sends.

A firm has a desk for each underlying, and quotes for each book. Tables are structured arrays: money in currency, quantities in coins, times
in seconds, volatilities those of one-minute returns. `market_makers` lays them out and says what they follow.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from abm.agents.quoting import NINETY_NINE, asymptotic_distances, inventory_limit, optimal_spread, reservation_price
from abm.agents.view import BPS
from abm.exchange.description import MONEY_UNITS
from abm.exchange.messages import Flag, Kind, Reason, Records, TimeInForce

UNITS = 1000.0
"""A full inventory in the units that the quoting rules count in: an order that reaches a firm is a thousandth of what it may hold."""

MINUTE = 60.0
_LEAST_SIGMA = 0.25  # of the calm volatility: however quiet it is, no firm takes it for less
_USED = 0.4  # part of a firm's means for what it holds with margin, and for what it pays in full: prices move before an order arrives
_NOTHING = 1e-6  # currency: a limit at which no lot may be held
_MASS_CANCEL, _LIMIT, _GTC, _SLIDE = int(Kind.MASS_CANCEL), int(Kind.LIMIT), int(TimeInForce.GTC), int(Flag.POST_SLIDE)
_REASON = int(Reason.MARKET_MAKING)

Floats = npt.NDArray[np.float64]

# ------------------------------------------------------------------ tables


def _floats(names: str) -> list[tuple[str, type[np.generic]]]:
    return [(name, np.float64) for name in names.split()]


FIRM = np.dtype(
    [
        ("share", np.float64),  # of all firms' depth
        ("pull_at", np.float64),  # one-minute move, in volatilities, that alarms it
        ("gap_at", np.float64),  # gap between its books of one underlying that does so too, as a fraction
        ("loss_limit", np.float64),
        ("equity_from", np.float64),  # where the day's losses are counted from
        ("equity", np.float64),  # as of its last look; the coins that it always holds count at the price of the start
        ("means", np.float64),  # cash, and what positions with margin add to it
        ("looked_at", np.float64),
        ("next_look", np.float64),
        ("stays", np.bool_),  # alarmed, it quotes on, further away
    ],
    align=True,
)
DESK = np.dtype(  # one firm in one underlying
    [
        ("calm_limit", np.float64),  # coins
        ("limit", np.float64),  # currency that it may hold beyond its targets now, long or short
        ("delta", np.float64),  # currency that it holds beyond them, all books together
        ("size", np.float64),  # fraction of its full size, below 1 after it stepped back
        ("leaves_at", np.float64),  # infinite where nothing alarms it
        ("back_at", np.float64),  # until then it is away, or wide
        ("wide", np.bool_),
    ],
    align=True,
)
QUOTE = np.dtype(  # one firm in one book
    [
        ("target", np.float64),  # coins it wants to hold
        ("most", np.float64),  # coins it may hold beyond that, long or short
        ("limit", np.float64),  # the same in currency, as far as its means go
        ("beyond", np.float64),  # currency held beyond the target
        ("risk_aversion", np.float64),
        ("decay", np.float64),  # of the rate of orders, per currency, in the calm
        ("fair", np.float64),  # what it takes for the price
        ("centre", np.float64),  # of its quotes as they stand; 0 = none
        ("half", np.float64),  # their half-spread
        ("shift", np.float64),  # by how much its centre is below the fair price
        ("inventory", np.float64),  # delta when it quoted, as a part of the limit
        ("quoted_at", np.float64),
        ("lots", np.int64),  # position when it quoted
    ],
    align=True,
)
BOOK = np.dtype(
    _floats("tick lot reference depth exponent outermost impact leverage")
    + _floats("recent hourly daily")  # flow a second by three memories, in what it teaches
    + _floats("expects_0 expects_1 expects_2")  # weights of these in the flow that is expected
    + _floats("premium flow")  # usual gap to the common price; what trades of this step teach, as a fraction
    + [(name, np.int64) for name in ("index", "underlying", "levels", "max_tick", "lots")]  # lots: of all firms
    + [(name, np.bool_) for name in ("derivative", "margined", "glft")]
)
UNDERLYING = np.dtype(
    _floats("calm sigma lasting")  # volatilities of one-minute returns: in the calm, of late, and of the last hours
    + _floats("fast slow rough")  # the variances of the latter two, and a move in volatilities
    + _floats("price gap learnt")  # common to its books; between them, as a fraction; by all their trades
)
CONFIGURED = _floats(
    "horizon concavity orders_per_second size_exponent stop_side_at value_at_risk var_horizon cross keep stale memory premium_memory fast slow"
) + _floats("stay_width stay_sigmas return_size return_half_life")
RANGES = ("look", "pull", "reaction")
TERMS = np.dtype(
    CONFIGURED
    + [(f"recalls_{k}", np.float64) for k in range(3)]
    + [(f"{name}_{end}", np.float64) for name in RANGES for end in ("min", "max")]
)


class State(NamedTuple):
    """All that the compiled pass reads and writes; `cash`, `position` and `basis` are the exchange's own arrays, in its units."""

    terms: Records
    firms: Records
    underlyings: Records
    books: Records
    desks: Records  # firms x underlyings
    quotes: Records  # firms x books
    mids: Floats  # of each book
    minutes: Floats  # its return over the last minute; not a number while the run is younger
    live: npt.NDArray[np.bool_]  # whether it trades continuously
    priced: npt.NDArray[np.bool_]  # whether, besides, somebody bids and somebody offers: its mid is a price of now
    calls: npt.NDArray[np.bool_]  # whether orders are collected for an auction
    news: Floats  # what a step's news does to the value of each underlying, as a factor
    cash: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]  # firms x instruments
    basis: npt.NDArray[np.int64]
    out: Records


# ------------------------------------------------------------------ what all firms see


@njit(cache=True)
def _part(elapsed: float, half_life: float) -> float:
    """The part of a gap that closes in a time."""
    return float(1.0 - 0.5 ** (elapsed / half_life))


@njit(cache=True)
def _observe(s: Any, u: int, dt: float) -> None:
    """Price, gap, volatility and roughness of an underlying, and what the flow of this step in its books teaches."""
    p, underlying = s.terms[0], s.underlyings[u]
    low, high, price, weight = np.inf, 0.0, 0.0, 0.0
    furthest, squares, seen, learnt = 0.0, 0.0, 0, 0.0
    for b in range(len(s.books)):
        book = s.books[b]
        if book.underlying != u:
            continue
        # What takers made the firms buy tells them something, as in Kyle (1985): they all see the trades.
        lots = s.position[:, book.index].sum()
        traded = (lots - book.lots) * book.lot * s.mids[b] / 1e6
        flow = book.impact * math.copysign(abs(traded) ** p.concavity, traded)
        book.lots = lots
        # What they expected teaches nothing: large orders are traded in pieces, and who sees some expects more (Lillo and Farmer 2004).
        expected = book.expects_0 * book.recent + book.expects_1 * book.hourly + book.expects_2 * book.daily
        book.flow = flow - expected * dt
        book.recent += (flow / dt - book.recent) * _part(dt, p.recalls_0)
        book.hourly += (flow / dt - book.hourly) * _part(dt, p.recalls_1)
        book.daily += (flow / dt - book.daily) * _part(dt, p.recalls_2)
        learnt += book.flow
        if s.priced[b]:
            usual = s.mids[b] / (1.0 + book.premium)
            low, high = min(low, usual), max(high, usual)
            price += book.depth * usual
            weight += book.depth
        if not np.isnan(s.minutes[b]):
            furthest = max(furthest, abs(s.minutes[b]))
            squares += s.minutes[b] ** 2
            seen += 1
    underlying.learnt = learnt
    if weight > 0.0:
        underlying.price, underlying.gap = price / weight, high / low - 1.0
    else:
        underlying.gap = 0.0
        underlying.price *= s.news[u]  # what is heard while none of its books has a price is not forgotten
    # Nobody is alarmed by what is usual in the calm, however quiet the last hour was.
    underlying.rough = furthest / max(math.sqrt(underlying.slow), underlying.calm)
    if seen:
        underlying.fast += (squares / seen - underlying.fast) * _part(dt, p.fast)
        underlying.slow += (squares / seen - underlying.slow) * _part(dt, p.slow)
    least = _LEAST_SIGMA * underlying.calm
    underlying.sigma, underlying.lasting = (
        max(math.sqrt(underlying.fast), least),
        max(math.sqrt(underlying.slow), least),
    )


@njit(cache=True)
def _learn(s: Any, dt: float) -> None:
    """What the firms take for the price of each book: it follows news and flow at once, and the common price of its underlying with time.

    That price is the mean of the mids, weighted by depth, each less its premium; a premium is the gap that has become usual. By how much the
    quotes lean is no part of what a book is worth: or a lean would move the mid, the mid the fair price, and that the quotes again.
    """
    p = s.terms[0]
    closes, settles = _part(dt, p.memory), _part(dt, p.premium_memory)
    for b in range(len(s.books)):
        book = s.books[b]
        underlying = s.underlyings[book.underlying]
        learnt = book.flow + p.cross * (underlying.learnt - book.flow)
        factor = s.news[book.underlying] * math.exp(-learnt)
        if s.priced[b]:
            book.premium += (s.mids[b] / underlying.price - 1.0 - book.premium) * settles
        usual = underlying.price * (1.0 + book.premium)
        for f in range(len(s.firms)):
            usual += s.firms[f].share * s.quotes[f, b].shift
        for f in range(len(s.firms)):
            quote = s.quotes[f, b]
            quote.fair *= factor
            quote.fair += (usual - quote.fair) * closes


# ------------------------------------------------------------------ what one firm may do


@njit(cache=True)
def _reckon(s: Any, f: int) -> None:
    """Equity and means of a firm, what it holds of each underlying, and how much that may be.

    A book's limit is what its terms allow and its part of the means carries; an underlying's is that of its books together, and what the
    value at risk of the firm leaves beside its other underlyings (MECHANICS 8).
    """
    p, firm = s.terms[0], s.firms[f]
    firm.equity = firm.means = s.cash[f] / MONEY_UNITS
    n_margined = 0
    for u in range(len(s.underlyings)):
        s.desks[f, u].delta = s.desks[f, u].limit = 0.0
    for b in range(len(s.books)):
        book, quote, mid = s.books[b], s.quotes[f, b], s.mids[b]
        held = s.position[f, book.index] * book.lot
        worth = held * mid
        if book.derivative:
            worth -= s.basis[f, book.index] / MONEY_UNITS
        firm.equity += worth - quote.target * (mid - book.reference)
        if book.margined:
            firm.means += worth
            n_margined += 1
        quote.beyond = (held - quote.target) * mid
        s.desks[f, book.underlying].delta += quote.beyond
    usable = max(firm.means, 0.0) * _USED
    for b in range(len(s.books)):
        book, quote = s.books[b], s.quotes[f, b]
        carried = usable * book.leverage / n_margined if book.margined else usable / (len(s.books) - n_margined)
        quote.limit = max(min(quote.most * s.mids[b], carried), _NOTHING)
        s.desks[f, book.underlying].limit += quote.limit
    hours = math.sqrt(p.var_horizon / MINUTE)
    at_risk = 0.0
    for u in range(len(s.underlyings)):
        at_risk += abs(s.desks[f, u].delta) * NINETY_NINE * s.underlyings[u].lasting * hours
    for u in range(len(s.underlyings)):
        desk, sigma = s.desks[f, u], s.underlyings[u].lasting * hours
        others = at_risk - abs(desk.delta) * NINETY_NINE * sigma
        budget = max(p.value_at_risk * firm.equity - others, 0.0)
        desk.limit = max(inventory_limit(desk.limit, budget, sigma, 1.0), _NOTHING)


@njit(cache=True)
def _withdraw(m: Any, owner: int, instrument: int) -> None:
    m.kind, m.owner, m.instrument, m.side, m.order = _MASS_CANCEL, owner, instrument, 0, 0
    m.price, m.quantity, m.tif, m.flags, m.reason = 0, 0, 0, 0, 0


@njit(cache=True)
def _watch(s: Any, f: int, u: int, hurt: bool, now: float, draw: Any, owner: int, n: int) -> int:
    """Step back from an underlying if that is called for, or come back by and by. Answers how many messages there are now."""
    p, firm, desk, underlying = s.terms[0], s.firms[f], s.desks[f, u], s.underlyings[u]
    violent = underlying.rough > p.stay_sigmas
    if now < desk.back_at:
        if not (desk.wide and violent):
            return n
    else:
        desk.size += (1.0 - desk.size) * _part(now - max(firm.looked_at, desk.back_at), p.return_half_life)
        desk.wide = False
    if not (hurt or underlying.rough > firm.pull_at or underlying.gap > firm.gap_at):
        desk.leaves_at = np.inf
        return n
    if desk.leaves_at == np.inf:
        desk.leaves_at = now + p.reaction_min + (p.reaction_max - p.reaction_min) * draw[0]
    if not (hurt or violent or now >= desk.leaves_at):
        return n
    if hurt:
        firm.equity_from = firm.equity  # the next loss is counted from here
    desk.leaves_at = np.inf
    desk.back_at = now + p.pull_min + (p.pull_max - p.pull_min) * draw[1]
    desk.size = p.return_size
    desk.wide = firm.stays and not violent
    for b in range(len(s.books)):
        quote = s.quotes[f, b]
        if s.books[b].underlying != u:
            continue
        quote.fair = underlying.price * (1.0 + s.books[b].premium)
        if quote.centre > 0.0 and not desk.wide:
            quote.centre = quote.shift = 0.0
            _withdraw(s.out[n], owner, s.books[b].index)
            n += 1
    return n


# ------------------------------------------------------------------ quotes


@njit(cache=True)
def _aim(s: Any, f: int, b: int) -> tuple[float, float]:
    """Centre and half-spread by the rule of the book.

    Orders reach the further into a book the more prices move: the decay of their rate is that of the calm, divided by how much more volatile it is.
    """
    p, book, quote, mid = s.terms[0], s.books[b], s.quotes[f, b], s.mids[b]
    underlying, desk = s.underlyings[book.underlying], s.desks[f, book.underlying]
    inventory = UNITS * min(max(desk.delta / (desk.calm_limit * mid), -1.0), 1.0)
    volatility = underlying.sigma * mid / math.sqrt(MINUTE)
    decay = quote.decay * underlying.calm * book.reference / (underlying.sigma * mid)
    if book.glft:
        bid, ask = asymptotic_distances(inventory, quote.risk_aversion, volatility, p.orders_per_second, decay)
        centre, half = quote.fair + (ask - bid) / 2.0, (ask + bid) / 2.0
    else:
        centre = reservation_price(quote.fair, inventory, quote.risk_aversion, volatility, p.horizon)
        half = optimal_spread(quote.risk_aversion, volatility, p.horizon, decay) / 2.0
    return centre, max(half, book.tick) * (p.stay_width if desk.wide else 1.0)


@njit(cache=True)
def _ladder(s: Any, f: int, b: int, size: float, owner: int, n: int) -> int:
    """Write both sides of one book, `size` of the curve's depth. Answers how many messages there are now."""
    if size <= 0.0:
        return n
    p, book, quote, mid = s.terms[0], s.books[b], s.quotes[f, b], s.mids[b]
    desk, flags = s.desks[f, book.underlying], _SLIDE if s.live[b] else 0  # before an auction quotes may cross
    ratio = (max(book.outermost * mid, 4.0 * quote.half) / quote.half) ** (1.0 / (book.levels - 1))
    # A level stands in the middle, by ratio, of the stretch of the curve whose depth it shows.
    full = size * book.depth * (quote.half * ratio ** (book.levels - 0.5) / mid / (100 * BPS)) ** book.exponent
    for side in range(2):
        sign = 1.0 - 2.0 * side
        adds = max(sign * quote.beyond / quote.limit, sign * desk.delta / desk.limit)
        if adds > p.stop_side_at:
            continue
        room = min(quote.limit - sign * quote.beyond, desk.limit - sign * desk.delta)
        part = min(1.0, 1.0 - adds, room / full)
        distance, within = quote.half, 0.0
        for _ in range(book.levels):
            reach = book.depth * (distance * math.sqrt(ratio) / mid / (100 * BPS)) ** book.exponent
            quantity = np.int64((reach - within) * size * part / mid / book.lot)
            within = reach
            ticks = (quote.centre - sign * distance) / book.tick
            price = math.floor(ticks) if side == 0 else math.ceil(ticks)
            distance *= ratio
            if quantity < 1 or price < 1 or price > book.max_tick:
                continue
            m = s.out[n]
            m.kind, m.owner, m.instrument, m.side, m.order = _LIMIT, owner, book.index, side, 0
            m.price, m.quantity, m.tif, m.flags, m.reason = np.int32(price), quantity, _GTC, flags, _REASON
            n += 1
    return n


@njit(cache=True)
def _requote(s: Any, f: int, b: int, left: float, now: float, owner: int, n: int) -> int:
    """Quote one book anew if what stands there is no longer right. Answers how many messages there are now."""
    p, book, quote = s.terms[0], s.books[b], s.quotes[f, b]
    underlying, desk = s.underlyings[book.underlying], s.desks[f, book.underlying]
    centre, half = _aim(s, f, b)
    lots = s.position[f, book.index]
    inventory = min(max(desk.delta / desk.limit, -1.0), 1.0)
    moved = quote.centre == 0.0 or max(abs(centre - quote.centre), abs(half - quote.half)) > p.keep * half
    filled = lots != quote.lots or abs(inventory - quote.inventory) > 1.0 - p.stop_side_at
    if not (moved or filled or now - quote.quoted_at > p.stale):
        return n
    quote.shift = quote.fair - centre
    quote.centre, quote.half, quote.lots, quote.inventory, quote.quoted_at = centre, half, lots, inventory, now
    _withdraw(s.out[n], owner, book.index)
    thinner = (underlying.calm / underlying.sigma) ** p.size_exponent
    written: int = _ladder(s, f, b, s.firms[f].share * thinner * desk.size * left, owner, n + 1)
    return written


@njit(cache=True)
def decide(s: Any, uniform: npt.NDArray[np.float64], first: int, now: float, dt: float) -> int:
    """What all firms send in one step, written to `s.out`.

    Args:
        s: A `State`; changed.
        uniform: Draws for each firm (firms, 1 + 2 underlyings).
        first: The first firm's account.
        now: Seconds since the start of the run.
        dt: Seconds of a step.

    Returns:
        How many messages are written.
    """
    p, n = s.terms[0], 0
    for u in range(len(s.underlyings)):
        _observe(s, u, dt)
    _learn(s, dt)
    for f in range(len(s.firms)):
        firm = s.firms[f]
        if now < firm.next_look:
            continue
        firm.next_look = now + p.look_min + (p.look_max - p.look_min) * uniform[f, 0]
        _reckon(s, f)
        hurt = firm.equity_from - firm.equity > firm.loss_limit
        for u in range(len(s.underlyings)):
            n = _watch(s, f, u, hurt, now, uniform[f, 1 + 2 * u :], first + f, n)
        firm.looked_at = now
        left = min(max(1.0 - (firm.equity_from - firm.equity) / firm.loss_limit, 0.0), 1.0)
        for b in range(len(s.books)):
            desk = s.desks[f, s.books[b].underlying]
            if (s.live[b] or s.calls[b]) and (desk.wide or now >= desk.back_at):
                n = _requote(s, f, b, left, now, first + f, n)
    return n
