"""Random histories of an exchange: instruments, endowed accounts, and tapes on which every kind of message is mixed.

One description of what may be sent serves two sources of choice: a seeded generator (`random_tape`, `random_history`)
and hypothesis (`histories`, which shrinks to few and simple messages). Histories with margin (`random_margined_history`,
`margined_histories`) have besides a list of calls of the clearing house, made between slices of the tape.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from hypothesis import strategies as st

from abm.clearing.rules import Bracket, Funding, Liquidation, Margin, Mark
from abm.exchange.instrument import Breaker, FeeTier, Instrument, MarketWideBreaker, PriceBand, VolatilityAuction
from abm.exchange.messages import (
    ANONYMOUS,
    MESSAGE,
    Flag,
    Kind,
    Phase,
    Reason,
    Records,
    Reject,
    SelfTrade,
    Side,
    TimeInForce,
)

MIX: dict[str, int] = {
    "LIMIT": 500,
    "MARKET": 70,
    "CANCEL": 60,
    "REDUCE": 30,
    "REPLACE": 60,
    "MASS_CANCEL": 8,
    "STOP": 40,
    "STOP_LIMIT": 40,
    "TRAILING_STOP": 30,
    "PEGGED": 40,
    "PHASE": 14,
    "UNCROSS": 10,
    "MARK": 25,
    "REFERENCE": 6,
    "CLOCK": 8,
    "REFUSED": 5,
    "closing": 20,  # a reduce-only limit order near the touch
    "sweep": 30,  # an order through several levels, at once or not at all
    "spoilt": 40,  # any of the above with one field made wrong
}
"""Messages of each kind in a thousand or so."""

MIXES: tuple[dict[str, int], ...] = (
    {},
    {"PHASE": 50, "UNCROSS": 50, "MARKET": 150, "REPLACE": 100},  # auctions
    {"LIMIT": 20, "MARKET": 400, "STOP_LIMIT": 5, "PEGGED": 10, "PHASE": 100, "UNCROSS": 100},  # hardly a limit order
    {
        "STOP": 150,
        "STOP_LIMIT": 100,
        "TRAILING_STOP": 120,
        "MARK": 80,
        "PHASE": 40,
        "CANCEL": 120,
        "MASS_CANCEL": 30,
    },  # activations
    {"PEGGED": 200, "REPLACE": 150, "CANCEL": 150},  # changes
    {"closing": 300, "MARKET": 150},  # positions that shrink under resting orders
    {"sweep": 250, "MARKET": 200, "REFERENCE": 40},  # deep trades
)
"""Other weights for some kinds, to reach what the even mix seldom meets."""

STEADY_MIX = {"STOP": 0, "STOP_LIMIT": 0, "TRAILING_STOP": 0, "PEGGED": 0, "PHASE": 3, "UNCROSS": 2}
"""Nothing waits to follow an entry, so that most orders take the short way through the pass."""

FLAGS = {
    Flag.NONE: 60,
    Flag.POST_ONLY: 6,
    Flag.POST_SLIDE: 6,
    Flag.REDUCE_ONLY: 12,
    Flag.HIDDEN: 10,
    Flag.POST_ONLY | Flag.HIDDEN: 1,
    Flag.POST_SLIDE | Flag.HIDDEN: 1,
    Flag.POST_ONLY | Flag.REDUCE_ONLY: 2,
    Flag.POST_SLIDE | Flag.REDUCE_ONLY: 2,
}

STOPS = (Kind.STOP, Kind.STOP_LIMIT, Kind.TRAILING_STOP)
AMONG: dict[tuple[Kind, ...], int] = {tuple(Kind): 7, STOPS: 2, (Kind.MARKET,): 1}
"""Kinds of orders that a cancel, reduce or replace looks for."""

TIMES_IN_FORCE = {
    TimeInForce.GTC: 12,
    TimeInForce.IOC: 2,
    TimeInForce.FOK: 1,
    TimeInForce.DAY: 2,
    TimeInForce.GTD: 3,
}

MILLISECOND = 1_000_000
GAPS = {0: 30, MILLISECOND: 30, 3 * MILLISECOND + 1: 30, 20 * MILLISECOND: 6, 150 * MILLISECOND: 1}

Intent = dict[str, Any]
"""A message before it is known what came before it: prices as distances, times as gaps, ids as how far back."""


class Choose(Protocol):
    """A source of choices."""

    def integer(self, low: int, high: int) -> int:
        """Return a number in low..high."""
        ...


class Dice:
    """Choices of a seeded generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high, endpoint=True))


class Drawn:
    """Choices of hypothesis; they shrink towards the lowest number."""

    def __init__(self, draw: Callable[[st.SearchStrategy[int]], int]) -> None:
        self.draw = draw

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))


def pick[T](choose: Choose, options: Sequence[T]) -> T:
    return options[choose.integer(0, len(options) - 1)]


def chance(choose: Choose, percent: int) -> bool:
    return choose.integer(0, 99) >= 100 - percent


def weigh[T](choose: Choose, weights: Mapping[T, int]) -> T:
    ticket = choose.integer(0, sum(weights.values()) - 1)
    for option, weight in weights.items():
        if ticket < weight:
            return option
        ticket -= weight
    raise AssertionError("weights are positive")


# ------------------------------------------------------------------------------------------------------ instruments


FEES = (
    (FeeTier(),),
    (FeeTier(maker=0.0011, taker=0.0123), FeeTier(maker=-0.0037, taker=0.0437)),
    (FeeTier(maker=-0.005, taker=0.049), FeeTier(maker=0.03, taker=0.02), FeeTier(taker=0.0399)),
)


def choose_instruments(choose: Choose) -> tuple[Instrument, ...]:
    """One to four small instruments; ticks of a cent, so that a book has a few dozen prices."""
    names = ("alpha", "beta", "gamma", "delta")[: pick(choose, (1, 1, 2, 2, 3, 4))]
    return tuple(_choose_instrument(choose, name, names) for name in names)


def _choose_instrument(choose: Choose, name: str, names: tuple[str, ...]) -> Instrument:
    ticks = pick(choose, (60, 100, 12))
    middle = ticks // 2
    rules = [_choose_rule(choose, names) for _ in range(pick(choose, (0, 0, 1, 1, 2, 3)))]
    return Instrument(
        name=name,
        kind=pick(choose, ("spot", "spot", "perpetual")),
        tick=0.01,
        lot=0.001,
        max_price=ticks / 100,
        reference_price=pick(choose, (None, middle / 100)),
        max_order=0.03,
        matching=pick(choose, ("price_time", "pro_rata")),
        opening=pick(choose, ("continuous",) * 8 + ("call", "call", "halted", "closed")),
        fees=pick(choose, FEES),
        rules=tuple(rules),
    )


def _choose_rule(choose: Choose, names: tuple[str, ...]) -> PriceBand | Breaker | VolatilityAuction | MarketWideBreaker:
    width = pick(choose, (0.1, 0.2, 0.06, 0.3))
    window = pick(choose, (0.0, 0.05, 0.2))
    halt = pick(choose, (0.01, 0.04))
    call = pick(choose, (0.01, 0.04))
    match choose.integer(0, 4):
        case 0:
            return PriceBand(width=width, window=window)
        case 1:
            return Breaker(width=width, window=window, halt=halt, call=call)
        case 2:
            return VolatilityAuction(width=width, window=window, call=call)
        case _:
            halted = names[choose.integer(0, len(names) - 1) :]
            return MarketWideBreaker(fall=width, halt=pick(choose, (0.03, 0.0)), call=call, instruments=halted)


# --------------------------------------------------------------------------------------------------------- messages


def choose_intent(choose: Choose, mix: Mapping[str, int]) -> Intent:
    """One message, not yet placed in a tape."""
    kind = weigh(choose, mix)
    if kind == "spoilt":
        intent = choose_intent(choose, {name: weight for name, weight in mix.items() if name != "spoilt"})
        intent["spoil"] = _choose_spoil(choose)
        return intent
    if kind == "closing":
        intent = choose_intent(choose, {"LIMIT": 1})
        post = pick(choose, (Flag.NONE, Flag.NONE, Flag.POST_ONLY, Flag.POST_SLIDE))
        intent |= {
            "flags": Flag.REDUCE_ONLY | post,
            "tif": TimeInForce.GTC,
            "display": 0,
            "away": choose.integer(-3, 2),
        }
        return intent
    if kind == "sweep":
        intent = choose_intent(choose, {"LIMIT": 2, "MARKET": 1})
        at_market = intent["kind"] == Kind.MARKET
        tif = TimeInForce.GTC if at_market else pick(choose, (TimeInForce.FOK, TimeInForce.IOC))
        intent |= {"tif": tif, "flags": Flag.NONE, "display": 0, "away": choose.integer(-6, -1)}
        intent["quantity"] = choose.integer(2, 20)
        return intent
    intent: Intent = {
        "kind": Kind[kind],
        "instrument": choose.integer(0, 3),
        "side": choose.integer(0, 1),
        "owner": choose.integer(0, 9),
        "quantity": choose.integer(1, 9) if not chance(choose, 12) else choose.integer(10, 30),
        "gap": weigh(choose, GAPS),
        "drift": weigh(choose, {0: 85, 1: 6, -1: 6, 8: 1, -8: 1}),
    }
    if intent["kind"] <= Kind.MARKET or Kind.STOP <= intent["kind"] <= Kind.PEGGED:
        intent |= _choose_order(choose, intent["kind"], intent["quantity"])
    elif intent["kind"] in (Kind.CANCEL, Kind.REDUCE, Kind.REPLACE):
        intent |= {
            "target": choose.integer(0, 5) if chance(choose, 70) else choose.integer(0, 60),
            "among": weigh(choose, AMONG),
            "thief": chance(choose, 6),
            "same_price": chance(choose, 40),
            "away": choose.integer(-3, 4),
            "self_trade": choose.integer(0, max(SelfTrade)),
        }
        if intent["kind"] == Kind.REDUCE:
            intent["quantity"] = choose.integer(1, 6)
    elif intent["kind"] == Kind.MASS_CANCEL:
        intent["everywhere"] = chance(choose, 40)
    elif intent["kind"] in (Kind.PHASE, Kind.UNCROSS):
        phases = {Phase.CONTINUOUS: 50, Phase.CALL: 32, Phase.HALTED: 10, Phase.CLOSED: 8}
        intent["side"] = weigh(choose, phases)
        intent["day_end"] = weigh(choose, {0: 40, 20: 30, 60: 27, -5: 3}) * MILLISECOND
    elif intent["kind"] in (Kind.MARK, Kind.REFERENCE):
        intent["away"] = choose.integer(-4, 4)
    elif intent["kind"] == Kind.REFUSED:
        intent["tif"] = pick(choose, (Reject.OFF_TICK, Reject.OFF_LOT, Reject.TOO_LARGE, Reject.RATE_LIMIT))
    return intent


def _choose_order(choose: Choose, kind: Kind, quantity: int) -> Intent:
    intent: Intent = {
        "away": choose.integer(-3, 5) if not chance(choose, 3) else pick(choose, (-1000, 1000)),
        "distance": choose.integer(-1, 4),
        "self_trade": choose.integer(0, max(SelfTrade)),
        "reason": choose.integer(0, max(Reason)),
        "tif": weigh(choose, TIMES_IN_FORCE),
        "life": pick(choose, (40, 100, 400, 3, 10)) * MILLISECOND,
        "flags": weigh(choose, FLAGS),
        "display": choose.integer(1, 5) if chance(choose, 25) else 0,
        "price_limited": chance(choose, 40),
    }
    if not chance(choose, 3):
        _make_consistent(intent, kind)
    if kind != Kind.LIMIT and chance(choose, 30):
        intent["flags"] |= Flag.BY_MARK
    return intent


def _make_consistent(intent: Intent, kind: Kind) -> None:
    """Take away what does not go with the kind of order."""
    at_once = intent["tif"] in (TimeInForce.IOC, TimeInForce.FOK)
    if kind == Kind.MARKET and intent["tif"] != TimeInForce.IOC:
        intent["tif"] = TimeInForce.GTC
    if kind == Kind.PEGGED and at_once:
        intent["tif"] = TimeInForce.GTC
    if kind != Kind.LIMIT or at_once:
        intent["flags"] &= ~(Flag.POST_ONLY | Flag.POST_SLIDE)
    if kind not in (Kind.LIMIT, Kind.STOP_LIMIT):
        intent["flags"] &= ~Flag.HIDDEN
        intent["display"] = 0
    if kind == Kind.PEGGED:
        intent["flags"] &= ~Flag.REDUCE_ONLY
    if intent["flags"] & (Flag.HIDDEN | Flag.REDUCE_ONLY):
        intent["display"] = 0


SPOILS: dict[str, Sequence[int]] = {
    "kind": (16, 200),
    "instrument": (-1, -2, 4, 99),
    "owner": (99, -5, 4),
    "side": (2, 7, 255),
    "quantity": (0, -3, 31, 2**40),
    "price": (0, -4, 12, 60, 100, 2**30),
    "trigger": (0, -1, 60, 100, 2**31 - 1),
    "tif": (5, 255, TimeInForce.DAY, TimeInForce.GTD, TimeInForce.IOC, TimeInForce.FOK),
    "expiry": (0, -1),
    "flags": tuple(range(32)),
    "display": (-1, 1, 30),
    "order": (0, -7, 1, 2, 3, 5, 8, 2**31 - 1),
}


def _choose_spoil(choose: Choose) -> tuple[str, int]:
    spoilt = pick(choose, tuple(SPOILS))
    return spoilt, pick(choose, SPOILS[spoilt])


def arrange(instruments: Sequence[Instrument], intents: Sequence[Intent], *, accounts: int) -> Records:
    """Place intents in a tape: give them times, prices near a wandering centre, and ids of orders that came before."""
    tape = np.zeros(len(intents), MESSAGE)
    centres = [instrument.n_ticks // 2 for instrument in instruments]
    sent: list[int] = []  # rows of the tape that created an order
    time, fresh = 0, 1
    for row, intent in enumerate(intents):
        message = tape[row]
        kind = intent["kind"]
        at = intent["instrument"] % len(instruments)
        ticks = instruments[at].n_ticks
        centres[at] = min(max(centres[at] + intent["drift"], 3), ticks - 4)
        time += intent["gap"]
        owners = accounts or 5
        message["time"], message["kind"], message["instrument"] = time, kind, at
        message["side"], message["quantity"] = intent["side"], intent["quantity"]
        message["owner"] = ANONYMOUS if intent["owner"] == 9 else intent["owner"] % owners
        sign = 1 if intent["side"] == Side.BUY else -1

        def near(away: int, centre: int = centres[at], ticks: int = ticks) -> int:
            return min(max(centre + away, 1), ticks - 1)

        if kind <= Kind.MARKET or Kind.STOP <= kind <= Kind.PEGGED:
            message["order"] = fresh
            fresh += 1
            sent.append(row)
            for name in ("self_trade", "reason", "tif", "flags", "display"):
                message[name] = intent[name]
            if intent["tif"] == TimeInForce.GTD:
                message["expiry"] = time + intent["life"]
            if kind == Kind.LIMIT:
                message["price"] = near(-sign * intent["away"])
            elif kind == Kind.STOP:
                message["trigger"] = near(sign * intent["distance"])
            elif kind == Kind.STOP_LIMIT:
                message["trigger"] = near(sign * intent["distance"])
                message["price"] = near(sign * (intent["distance"] + intent["away"] - 1))
            elif kind == Kind.TRAILING_STOP:
                message["trigger"] = max(1, intent["distance"])
            elif kind == Kind.PEGGED:
                message["trigger"] = max(0, intent["distance"])
                message["price"] = near(-sign * intent["away"]) if intent["price_limited"] else 0
        elif kind in (Kind.CANCEL, Kind.REDUCE, Kind.REPLACE):
            message["order"] = fresh + 1000
            wanted = [earlier for earlier in sent if tape[earlier]["kind"] in intent["among"]]
            if wanted:
                target = tape[wanted[-1 - intent["target"] % len(wanted)]]
                message["order"], message["side"] = target["order"], target["side"]
                message["instrument"] = -1 if intent["thief"] else target["instrument"]
                if not intent["thief"]:
                    message["owner"] = target["owner"]
                if kind == Kind.REPLACE:
                    message["self_trade"] = intent["self_trade"]
                    target_at = min(max(int(target["instrument"]), 0), len(instruments) - 1)
                    away = -intent["away"] if target["side"] == Side.BUY else intent["away"]
                    moved = min(max(centres[target_at] + away, 1), instruments[target_at].n_ticks - 1)
                    message["price"] = target["price"] if intent["same_price"] else moved
        elif kind == Kind.MASS_CANCEL:
            message["instrument"] = -1 if intent["everywhere"] else at
        elif kind in (Kind.PHASE, Kind.UNCROSS, Kind.MARK, Kind.REFERENCE, Kind.CLOCK):
            message["owner"] = ANONYMOUS
            if kind in (Kind.MARK, Kind.REFERENCE):
                message["price"] = near(intent["away"])
            if kind == Kind.PHASE and intent["day_end"]:
                message["expiry"] = max(0, time + intent["day_end"])
        elif kind == Kind.REFUSED:
            message["tif"] = intent["tif"]
        if "spoil" in intent:
            name, value = intent["spoil"]
            message[name] = value
    return tape


def random_tape(
    rng: np.random.Generator,
    instruments: Sequence[Instrument],
    n: int,
    *,
    accounts: int,
    mix: Mapping[str, int] | None = None,
    lean: bool = False,
) -> Records:
    """Return a tape of n messages in which everything occurs; `mix` overrides weights of MIX by name.

    A market that the operator halts or closes is opened again some messages later, and now and then one is that a rule
    may have closed, so that tapes stay busy. Where accounts `lean`, even ones mostly buy and odd ones sell, so that
    positions grow, and prices jump more often.
    """
    choose = Dice(rng)
    weights = MIX | dict(mix or {})
    intents: list[Intent] = []
    reopen: dict[int, Intent] = {
        8 + at: _opening(choose, at) for at, item in enumerate(instruments) if item.opening != "continuous"
    }
    while len(intents) < n:
        if len(intents) % 40 == 39:
            reopen.setdefault(len(intents), _opening(choose, choose.integer(0, 3)))
        intent = reopen.pop(len(intents), None) or choose_intent(choose, weights)
        if lean:
            _lean(choose, intent)
        intents.append(intent)
        if intent["kind"] in (Kind.PHASE, Kind.UNCROSS) and intent["side"] != Phase.CONTINUOUS:
            later = len(intents) + choose.integer(4, 25)
            reopen.setdefault(later, _opening(choose, intent["instrument"]))
    return arrange(instruments, intents, accounts=accounts)


def _lean(choose: Choose, intent: Intent) -> None:
    if intent["owner"] == 9 and chance(choose, 80):
        intent["owner"] = choose.integer(0, 8)
    if "away" in intent and "distance" in intent and chance(choose, 65):
        intent["side"] = intent["owner"] % 2
    if chance(choose, 5):
        intent["drift"] = pick(choose, (6, -6, 20, -20))


def _opening(choose: Choose, instrument: int) -> Intent:
    intent = choose_intent(choose, {pick(choose, ("PHASE", "UNCROSS")): 1})
    intent["instrument"], intent["side"] = instrument, Phase.CONTINUOUS
    return intent


# -------------------------------------------------------------------------------------------------------- histories


@dataclass(frozen=True)
class History:
    """All that an exchange needs to be made, endowed and fed."""

    instruments: tuple[Instrument, ...]
    accounts: int
    ledger: bool
    cash: tuple[int, ...]  # money units, by account
    position: tuple[tuple[int, ...], ...]  # lots, by account and instrument
    tier: tuple[int, ...]
    tape: Records

    def open[E](self, make: Callable[..., E]) -> E:
        """Make an exchange with `make(instruments, accounts=, ledger=)` and endow its accounts."""
        exchange: Any = make(self.instruments, accounts=self.accounts, ledger=self.ledger)
        for account in range(self.accounts):
            exchange.cash[account] = self.cash[account]
            exchange.tier[account] = self.tier[account]
            for at in range(len(self.instruments)):
                exchange.position[account][at] = self.position[account][at]
        return exchange  # type: ignore[no-any-return]


def _choose_endowment(choose: Choose, instruments: Sequence[Instrument], accounts: int) -> dict[str, Any]:
    def lots(instrument: Instrument) -> int:
        spot = instrument.kind == "spot"
        return pick(choose, (20, 200, 3, 0)) if spot else pick(choose, (0, 4, -4, 15, -15, 40, -40))

    return {
        "cash": tuple(choose.integer(0, pick(choose, (1_000_000, 20_000, 4_000))) for _ in range(accounts)),
        "position": tuple(tuple(lots(instrument) for instrument in instruments) for _ in range(accounts)),
        "tier": tuple(choose.integer(0, min(len(item.fees) for item in instruments) - 1) for _ in range(accounts)),
    }


def _choose_accounts(choose: Choose) -> tuple[int, bool]:
    """Return number of accounts and whether there is a ledger: mostly both."""
    return pick(choose, ((0, False), (4, False), (4, True), (2, False), (2, True), (5, True), (3, True)))


def random_history(seed: int, n: int, *, mix: Mapping[str, int] | None = None) -> History:
    """Return random instruments, accounts and a tape of n messages; the same for the same seed.

    Without a mix of its own a history takes one of MIXES.
    """
    rng = np.random.default_rng(seed)
    choose = Dice(rng)
    mix = pick(choose, MIXES) if mix is None else mix
    instruments = choose_instruments(choose)
    accounts, ledger = _choose_accounts(choose)
    endowment = _choose_endowment(choose, instruments, accounts)
    tape = random_tape(rng, instruments, n, accounts=accounts, mix=mix)
    return History(instruments, accounts, ledger, **endowment, tape=tape)


@st.composite
def _intents(draw: st.DrawFn, mix: Mapping[str, int]) -> Intent:
    return choose_intent(Drawn(draw), mix)


@st.composite
def histories(draw: st.DrawFn, *, mix: Mapping[str, int] | None = None, ledger: bool | None = None) -> History:
    """Strategy: histories of a few dozen messages, which shrink to fewer and simpler ones.

    Args:
        draw: given by hypothesis.
        mix: overrides weights of MIX.
        ledger: only with a ledger, or only without; None = either.
    """
    choose = Drawn(draw)
    instruments = choose_instruments(choose)
    accounts, has_ledger = _choose_accounts(choose) if ledger is None else (4, ledger)
    endowment = _choose_endowment(choose, instruments, accounts)
    few = st.lists(_intents(MIX | dict(mix or {})), max_size=10)
    intents = [intent for part in draw(st.lists(few, max_size=10)) for intent in part]
    tape = arrange(instruments, intents, accounts=accounts)
    return History(instruments, accounts, has_ledger, **endowment, tape=tape)


# ------------------------------------------------------------------------------------------------ margined histories


@dataclass(frozen=True)
class Call:
    """A call of the clearing house before a message of the tape."""

    at: int
    name: str
    arguments: dict[str, Any]

    def make(self, exchange: Any) -> bool:
        """Return whether it was allowed."""
        try:
            getattr(house_of(exchange), self.name)(**self.arguments)
        except ValueError:
            return False
        return True


def house_of(exchange: Any) -> Any:
    return getattr(exchange, "house", exchange)


@dataclass(frozen=True)
class MarginedHistory(History):
    """A history with margin: accounts begin without positions but in spot, and the calls stand in the order of the tape."""

    calls: tuple[Call, ...]
    rows: tuple[int, ...] = ()  # accounts in the order in which they are endowed; none = of their numbers

    def open[E](self, make: Callable[..., E]) -> E:
        """Make an exchange and endow its accounts. Its clearing house is its attribute `house`, or itself."""
        exchange: Any = make(self.instruments, accounts=self.accounts, ledger=self.ledger)
        rows = np.array(self.rows or range(self.accounts), np.int32)
        house = house_of(exchange)
        house.credit(rows, "opening", cash=np.array(self.cash)[rows] / 1e6)
        for account in range(self.accounts):
            exchange.tier[account] = self.tier[account]
        for at, instrument in enumerate(self.instruments):
            if instrument.kind == "spot":
                coins = np.array(self.position)[rows, at] * instrument.lot
                house.credit(rows, "opening", coins=coins, instrument=instrument.name)
        return exchange  # type: ignore[no-any-return]

    def renumbered(self, new: Sequence[int]) -> "MarginedHistory":
        """The same with account k as number new[k]."""
        old = [list(new).index(account) for account in range(self.accounts)]
        numbers = np.array([*new, self.accounts], np.int32)  # the fund stays
        tape = self.tape.copy()
        known = (tape["owner"] >= 0) & (tape["owner"] <= self.accounts)
        tape["owner"][known] = numbers[tape["owner"][known]]
        calls = tuple(
            replace(call, arguments=call.arguments | {"rows": numbers[call.arguments["rows"]]})
            if "rows" in call.arguments
            else call
            for call in self.calls
        )
        return replace(
            self,
            cash=tuple(self.cash[account] for account in old),
            position=tuple(self.position[account] for account in old),
            tier=tuple(self.tier[account] for account in old),
            rows=tuple(int(new[account]) for account in (self.rows or range(self.accounts))),
            tape=tape,
            calls=calls,
        )

    def slices(self, size: int) -> Iterator[tuple[list[Call], Records]]:
        """Parts of the tape of at most `size` messages, each with the calls made before it."""
        cuts = sorted({0, len(self.tape), *range(0, len(self.tape), size), *(call.at for call in self.calls)})
        for start, end in pairwise(cuts):
            yield [call for call in self.calls if call.at == start], self.tape[start:end]


@dataclass(frozen=True)
class Scale:
    """How large things are in a history."""

    price: float  # highest, in currency; the tick is a cent
    lots: int  # of the book, that one lot of an intent is
    money: int  # money units that one of the endowment is
    crowded: bool  # one thin book makes its own mark; those who lean to buy are poor and hold as much as they may

    @property
    def is_huge(self) -> bool:
        return self.lots > 1_000


def _choose_scale(choose: Choose) -> Scale:
    price = pick(choose, (1.2, 0.6, 4.0, 4.0))
    crowded = chance(choose, 30)
    if chance(choose, 12):  # products of money and lots need more than 64 bits
        return Scale(price, 20_000_000, 10_000_000 * int(price / 0.6), crowded)
    return Scale(price, pick(choose, (1, 1, 3, 8)), int(price / 0.6), crowded)


MARGIN_MIX = {
    "MARK": 60,
    "PHASE": 6,
    "UNCROSS": 5,
    "REFERENCE": 4,
    "CLOCK": 25,
    "closing": 15,
    "spoilt": 15,
    "MARKET": 110,
}
MARGIN_MIXES: tuple[dict[str, int], ...] = (
    {},
    {"STOP": 90, "STOP_LIMIT": 60, "TRAILING_STOP": 60, "MARK": 120},
    {"LIMIT": 350, "MARKET": 300, "sweep": 100},
    {"MARK": 250},
    {"PHASE": 40, "UNCROSS": 40, "REPLACE": 100},
    {"closing": 120, "PEGGED": 100},
)
DEEP_MIX = {"LIMIT": 1500, "MARKET": 200, "sweep": 80, "MARK": 6, "closing": 0, "PHASE": 3, "UNCROSS": 3, "PEGGED": 10}
"""For crowds: books in which the order of a liquidation finds something, so that one sets off the next."""

_MARKETS: tuple[tuple[str, ...], ...] = (
    ("perpetual",),
    ("perpetual",),
    ("inverse",),
    ("spot",),
    ("spot", "perpetual"),
    ("plain", "perpetual"),
    ("perpetual", "plain"),
    ("plain", "inverse"),
    ("perpetual", "perpetual"),
    ("perpetual", "inverse"),
    ("future", "perpetual"),
    ("spot", "perpetual"),
    ("plain", "plain", "perpetual"),
    ("plain", "perpetual", "plain"),
    ("future", "inverse", "perpetual"),
    ("spot", "future", "plain"),
)
"""Kinds of the instruments that are traded together; plain = spot that is paid in full."""

_CROWDED = (("perpetual",), ("inverse",), ("future",))

_BRACKETS = (
    ((None, 20, 0.025),),
    ((0.01, 20, 0.02), (0.03, 10, 0.05), (None, 4, 0.15)),
    ((0.006, 50, 0.011), (0.02, 12.5, 0.04), (0.06, 3, 0.2)),
    ((0.03, 10, 0.0), (0.06, 2, 0.3333)),
)
"""Up to which notional in currency, leverage, maintenance. A lot is worth some 300 money units, or as many times more as the scale says."""

_MARGIN_FEES = (
    (FeeTier(),),
    (FeeTier(maker=0.0002, taker=0.0005), FeeTier(maker=-0.0001, taker=0.0003)),
    (FeeTier(maker=0.001, taker=0.004),),
    *FEES[1:],
)


def _choose_brackets(choose: Choose, scale: int) -> tuple[Bracket, ...]:
    return tuple(
        Bracket(up_to=None if up_to is None else up_to * scale, leverage=leverage, maintenance=maintenance)
        for up_to, leverage, maintenance in pick(choose, _BRACKETS)
    )


def _choose_margin(choose: Choose, kind: str, sources: Sequence[str], scale: Scale) -> Margin:
    window = pick(choose, (0.03, 0.3, 0.0001))
    index = {name: pick(choose, (1.0, 2.0, 0.3)) for name in sources}
    by_index = Mark(index=index, window=window, clip=pick(choose, (0.02, 0.3)))
    liquidation = Liquidation(
        style=pick(choose, ("full", "ladder", "staged")),
        fee=pick(choose, (0.0125, 0.0, 0.15)),
        stage=pick(choose, (0.2, 0.55)),
        staged_above=pick(choose, (0.0, 0.003, 0.001)) * scale.money,
        pause=pick(choose, (0.01, 0.08)),
        takes_over=chance(choose, 60),
        deficit=pick(choose, ("rank", "water", "socialise", "rank", "water")),
        redraw=pick(choose, (0.0, 0.04, 0.3)),
    )
    return Margin(
        brackets=_choose_brackets(choose, scale.money),
        mark=Mark() if scale.crowded else pick(choose, ("operator", Mark(), by_index, by_index)),
        funding=Funding(interval=pick(choose, (0.5, 0.05))) if kind in ("perpetual", "inverse") else None,
        liquidation=liquidation,
    )


def choose_margined_instruments(choose: Choose, scale: Scale) -> tuple[Instrument, ...]:
    """One to three instruments of one market, with prices around the same number of currency."""
    # Who buys spot from himself with little cash does so a few lots at a time, which takes for ever where lots are many
    markets = [kinds for kinds in _MARKETS if "plain" not in kinds] if scale.is_huge else _MARKETS
    kinds = pick(choose, _CROWDED if scale.crowded else markets)
    names = ("alpha", "beta", "gamma")[: len(kinds)]
    sources = [name for name, kind in zip(names, kinds, strict=True) if kind == "plain"]
    halting = chance(choose, 20 if scale.crowded else 40)
    instruments = []
    for name, kind in zip(names, kinds, strict=True):
        rules = [_choose_rule(choose, names) for _ in range(pick(choose, (0, 1, 2)))] if halting else []
        instruments.append(
            Instrument(
                name=name,
                kind="spot" if kind == "plain" else kind,
                tick=pick(choose, (0.01, 0.02)) if kind == "plain" else 0.01,
                lot=0.0001 if kind == "inverse" else 0.001,
                max_price=scale.price,
                reference_price=scale.price / 2,
                max_order=(0.003 if kind == "inverse" else 0.03) * scale.lots,
                matching=pick(choose, ("price_time", "price_time", "pro_rata")),
                opening=pick(choose, ("continuous",) * 9 + ("call",)),
                fees=pick(choose, _MARGIN_FEES[:2] if scale.crowded else _MARGIN_FEES),
                rules=tuple(rules),
                margin=None if kind == "plain" else _choose_margin(choose, kind, sources, scale),
            )
        )
    return tuple(instruments)


def _choose_terms(choose: Choose, instruments: Sequence[Instrument], accounts: int, scale: Scale) -> list[Call]:
    """Leverage and mode of everyone in everything."""
    everyone = np.arange(accounts, dtype=np.int32)
    calls = []
    for instrument in instruments:
        if instrument.margin:
            isolated = [instrument.kind != "spot" and chance(choose, 25) for _ in range(accounts)]
            allowed = [
                leverage for leverage in (20, 10, 20, 10, 3, 1, 7.3, 50, 45) if leverage <= instrument.margin.leverage
            ]
            allowed = [max(allowed)] if scale.crowded else allowed
            leverage = [pick(choose, allowed) for _ in range(accounts)]
            arguments = {"rows": everyone, "instrument": instrument.name, "leverage": leverage, "isolated": isolated}
            calls.append(Call(0, "set_terms", arguments))
    return calls


CALLS = {
    "set_terms": 4,
    "add_margin": 6,
    "pay_funding": 5,
    "settle_variation": 3,
    "expire": 1,
    "set_brackets": 2,
    "charge_interest": 2,
    "socialise_losses": 3,
    "credit": 2,
    "debit": 3,
}


def _choose_call(
    choose: Choose, at: int, instruments: Sequence[Instrument], accounts: int, scale: Scale
) -> Call | None:
    """One call; None where no instrument is of the sort it needs."""
    name = weigh(choose, CALLS)
    kinds = {"pay_funding": ("perpetual", "inverse"), "settle_variation": ("future",), "expire": ("future",)}
    able = [item for item in instruments if item.margin and (name not in kinds or item.kind in kinds[name])]
    if not able:
        return None
    instrument = pick(choose, able)
    rows = np.array([choose.integer(0, accounts - 1)], np.int32)
    money = choose.integer(-2_000, 4_000) * scale.money / 1e6
    middle = instrument.n_ticks // 2 + choose.integer(-6, 6)
    leverage = pick(choose, (20, 10, 3, 1))
    isolated = instrument.kind != "spot" and chance(choose, 40)
    fund = np.array([accounts], np.int32)
    arguments: dict[str, dict[str, Any]] = {
        "set_terms": {"rows": rows, "instrument": instrument.name, "leverage": leverage, "isolated": isolated},
        "add_margin": {"rows": rows, "instrument": instrument.name, "amount": money},
        "pay_funding": {"instrument": instrument.name, "rate": choose.integer(-40, 40) / 1000 + 1e-8},
        "settle_variation": {"instrument": instrument.name, "price": middle * instrument.tick},
        "expire": {"instrument": instrument.name, "price": middle * instrument.tick},
        "set_brackets": {"instrument": instrument.name, "brackets": _choose_brackets(choose, scale.money)},
        "charge_interest": {"rate": 0.0371},
        "socialise_losses": {},
        "credit": {"rows": fund if chance(choose, 30) else rows, "why": "deposit", "cash": abs(money)},
        "debit": {"rows": rows, "why": "withdrawal", "cash": abs(money)},
    }
    return Call(at, name, arguments[name])


def _choose_margined_endowment(
    choose: Choose, instruments: Sequence[Instrument], accounts: int, scale: Scale
) -> dict[str, Any]:
    def lots(instrument: Instrument) -> int:
        return pick(choose, (20, 60, 3, 0)) * scale.lots if instrument.kind == "spot" else 0

    def cash(account: int) -> int:
        crowd = (4, 9) if account % 2 == 0 else (60, 120)
        return choose.integer(0, 1000) * pick(choose, crowd if scale.crowded else (60, 12, 6, 3)) * scale.money

    return {
        "cash": tuple(cash(account) for account in range(accounts)),
        "position": tuple(tuple(lots(instrument) for instrument in instruments) for _ in range(accounts)),
        "tier": tuple(choose.integer(0, min(len(item.fees) for item in instruments) - 1) for _ in range(accounts)),
    }


def _margined_history(
    choose: Choose, make_tape: Callable[[tuple[Instrument, ...], int, bool], Records], calls_in_a_hundred: int
) -> MarginedHistory:
    scale = _choose_scale(choose)
    instruments = choose_margined_instruments(choose, scale)
    accounts = 8 if scale.crowded else pick(choose, (4, 5, 8))
    endowment = _choose_margined_endowment(choose, instruments, accounts, scale)
    calls = _choose_terms(choose, instruments, accounts, scale)
    funds = {
        "rows": np.array([accounts], np.int32),
        "why": "opening",
        "cash": pick(choose, (0, 300, 3000)) * scale.money / 1e6,
    }
    calls.append(Call(0, "credit", funds))
    tape = make_tape(instruments, accounts, scale.crowded)
    tape["quantity"] *= scale.lots
    tape["display"] *= scale.lots
    for at in range(1, len(tape)):
        if chance(choose, calls_in_a_hundred):
            call = _choose_call(choose, at, instruments, accounts, scale)
            calls += [call] if call else []
    return MarginedHistory(instruments, accounts, True, **endowment, tape=tape, calls=tuple(calls))


def random_margined_history(seed: int, n: int, *, mix: Mapping[str, int] | None = None) -> MarginedHistory:
    """Return a history with margin and n messages; the same for the same seed."""
    rng = np.random.default_rng(seed)
    choose = Dice(rng)

    def make_tape(instruments: tuple[Instrument, ...], accounts: int, crowded: bool) -> Records:
        some = DEEP_MIX if crowded and chance(choose, 70) else pick(choose, MARGIN_MIXES)
        weights = MARGIN_MIX | dict(some if mix is None else mix)
        return random_tape(rng, instruments, n, accounts=accounts, mix=weights, lean=True)

    return _margined_history(choose, make_tape, 4)


@st.composite
def margined_histories(draw: st.DrawFn, *, mix: Mapping[str, int] | None = None) -> MarginedHistory:
    """Strategy: histories with margin of a few dozen messages, which shrink."""

    def make_tape(instruments: tuple[Instrument, ...], accounts: int, _: bool) -> Records:
        few = st.lists(_intents(MIX | MARGIN_MIX | dict(mix or {})), max_size=10)
        intents = [intent for messages in draw(st.lists(few, max_size=10)) for intent in messages]
        return arrange(instruments, intents, accounts=accounts)

    return _margined_history(Drawn(draw), make_tape, 4)
