"""Laws that every exchange obeys whatever is sent to it. They look only at what an exchange shows from outside.

Each law takes `make(instruments, accounts=, ledger=)`: the twin here, and any other exchange that joins EXCHANGES.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from abm.exchange.messages import (
    ANONYMOUS,
    MESSAGE,
    Flag,
    Kind,
    Phase,
    Records,
    Side,
    Status,
    TimeInForce,
    What,
)
from tests.property.engine import Engine
from tests.reference.exchange import ReferenceExchange
from tests.reference.tapes import MIXES, History, histories, random_history

Make = Callable[..., Any]
EXCHANGES = [pytest.param(ReferenceExchange, id="twin"), pytest.param(Engine, id="engine")]

every_exchange = pytest.mark.parametrize("make", EXCHANGES)
often = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])

ORDERS = {Kind.LIMIT, Kind.MARKET, Kind.STOP, Kind.STOP_LIMIT, Kind.TRAILING_STOP, Kind.PEGGED}
ENDINGS = {
    What.EXPIRED,
    What.SELF_TRADE_CANCELLED,
    What.REDUCE_ONLY_CANCELLED,
    What.MASS_CANCELLED,
    What.AUCTION_CANCELLED,
    What.ACTIVATION_CANCELLED,
}
AUCTIONS = MIXES[1]


def any_history(mix: dict[str, int] | None = None) -> st.SearchStrategy[History]:
    """Small histories, which shrink, and busy ones, which do not."""
    busy = st.builds(lambda seed: random_history(seed, 120, mix=mix), st.integers(0, 2**32 - 1))
    return histories(mix=mix) | busy


class Answer(NamedTuple):
    trades: Records
    outcomes: Records
    events: Records
    liquidations: Records


def send(exchange: Any, tape: Records) -> Answer:
    report = exchange.match(tape)
    return Answer(*report)


def clock(time: int) -> Records:
    tape = np.zeros(1, MESSAGE)
    tape["time"], tape["kind"], tape["owner"] = time, Kind.CLOCK, ANONYMOUS
    return tape


class Resting(NamedTuple):
    price: int
    order: int
    owner: int
    lots: int
    hidden: bool


def resting(exchange: Any, instrument: int, side: int) -> list[Resting]:
    """All that rests on one side, best price first and in priority order."""
    if hasattr(exchange, "levels"):
        prices = exchange.levels(instrument, side)
    else:
        prices = range(1, exchange.instruments[instrument].n_ticks)
        prices = reversed(prices) if side == Side.BUY else prices
    return [
        Resting(price, int(row["order"]), int(row["owner"]), int(row["quantity"] + row["reserve"]), bool(row["hidden"]))
        for price in prices
        for row in exchange.queue(instrument, side, price)
    ]


def message_by_message(exchange: Any, tape: Records) -> Iterator[tuple[np.void, Answer]]:
    """Send one message at a time; the timers that it would fire are fired before by a CLOCK, answered as row None."""
    for row in range(len(tape)):
        yield clock(tape["time"][row])[0], send(exchange, clock(tape["time"][row]))
        yield tape[row], send(exchange, tape[row : row + 1])


@every_exchange
@often
@given(history=any_history())
def test_no_book_is_crossed_or_locked_in_continuous_trading(make: Make, history: History) -> None:
    exchange = history.open(make)
    for _, _ in message_by_message(exchange, history.tape):
        phase = exchange.view().phase
        for at in range(len(history.instruments)):
            bids, asks = resting(exchange, at, Side.BUY), resting(exchange, at, Side.SELL)
            if phase[at] == Phase.CONTINUOUS and bids and asks:
                assert bids[0].price < asks[0].price


@every_exchange
@often
@given(history=any_history())
def test_lots_entered_are_filled_or_cancelled_or_rest(make: Make, history: History) -> None:
    """Order by order. Of a reduce-only order lots may vanish without a word, when its owner's position shrinks."""
    exchange = history.open(make)
    left: dict[int, int] = {}  # lots of every order that are not accounted for yet
    flags: dict[int, int] = {}
    kinds: dict[int, int] = {}
    for message, answer in message_by_message(exchange, history.tape):
        number, kind = int(message["order"]), message["kind"]
        status = answer.outcomes["status"][0]
        if status != Status.REJECTED:
            if kind in ORDERS:
                assert number not in left, "an id is used once"
                left[number], flags[number], kinds[number] = int(message["quantity"]), int(message["flags"]), int(kind)
            elif kind == Kind.CANCEL:
                left[number] = 0
            elif kind == Kind.REDUCE:
                left[number] -= int(message["quantity"])
            elif kind == Kind.REPLACE:
                left[number] = int(message["quantity"])
        taken = answer.trades[(answer.trades["taker"] == number) & (answer.trades["aggressor"] != Side.AUCTION)]
        assert answer.outcomes["filled"][0] == taken["quantity"].sum()
        for trade in answer.trades:
            assert trade["quantity"] > 0
            left[int(trade["maker"])] -= int(trade["quantity"])
            left[int(trade["taker"])] -= int(trade["quantity"])
        incoming = number
        for event in answer.events:
            order, lots = int(event["order"]), int(event["quantity"])
            if event["what"] == What.TRIGGERED:
                incoming = order
            elif event["what"] == What.SELF_TRADE_DECREMENTED:
                left[order] -= lots
                if incoming in left:
                    left[incoming] -= lots
            elif event["what"] in ENDINGS:
                assert lots == left[order] or (flags[order] & Flag.REDUCE_ONLY and 0 < lots < left[order])
                left[order] = 0
        if status in (Status.CANCELLED, Status.FILLED):
            assert status == Status.CANCELLED or left[number] == 0 or flags[number] & Flag.REDUCE_ONLY
            left[number] = 0
        assert all(lots >= 0 for lots in left.values())

        in_book: Counter[int] = Counter()
        for at in range(len(history.instruments)):
            for side in (Side.BUY, Side.SELL):
                for order in resting(exchange, at, side):
                    assert order.lots > 0
                    assert order.order not in in_book
                    in_book[order.order] = order.lots
        for order in left.keys() | in_book.keys():
            if flags[order] & Flag.REDUCE_ONLY or kinds[order] not in (Kind.LIMIT, Kind.MARKET):
                assert in_book[order] <= left[order]  # it may wait outside the book
            else:
                assert in_book[order] == left[order]


@every_exchange
@often
@given(history=any_history())
def test_cash_and_coins_are_conserved(make: Make, history: History) -> None:
    exchange = history.open(make)
    cash = sum(history.cash)
    coins = np.array(history.position, np.int64).reshape(history.accounts, len(history.instruments)).sum(axis=0)
    for _, answer in message_by_message(exchange, history.tape):
        if not history.accounts:
            continue
        for trade in answer.trades:  # what anonymous owners bought has left the accounts
            taker_sells = int(trade["aggressor"] == Side.SELL)
            lots = int(trade["quantity"])
            if trade["taker_owner"] == ANONYMOUS:
                coins[trade["instrument"]] -= -lots if taker_sells else lots
            if trade["maker_owner"] == ANONYMOUS:
                coins[trade["instrument"]] -= lots if taker_sells else -lots
        assert np.sum(np.asarray(exchange.cash), dtype=object) + exchange.fees == cash
        assert (np.asarray(exchange.position).sum(axis=0) == coins).all()


@every_exchange
@often
@given(history=histories(ledger=True) | st.integers(0, 2**32 - 1).map(lambda seed: random_history(seed, 120)))
def test_nobody_trades_with_what_is_not_there(make: Make, history: History) -> None:
    exchange = history.open(make)
    if not history.ledger:
        return
    spot = [at for at, instrument in enumerate(history.instruments) if instrument.kind == "spot"]
    for _ in message_by_message(exchange, history.tape):
        assert (np.asarray(exchange.cash) >= np.asarray(exchange.cash_reserved)).all()
        free = np.asarray(exchange.position) - np.asarray(exchange.position_reserved)
        assert (free[:, spot] >= 0).all()
        assert (np.asarray(exchange.cash_reserved) >= 0).all()
        assert (np.asarray(exchange.position_reserved) >= 0).all()


def volumes(bids: list[Resting], asks: list[Resting], ticks: int) -> dict[int, tuple[int, int]]:
    """Lots traded and difference of the sides, at every price."""
    both = {}
    for price in range(1, ticks):
        bought = sum(bid.lots for bid in bids if bid.price >= price)
        sold = sum(ask.lots for ask in asks if ask.price <= price)
        both[price] = min(bought, sold), abs(bought - sold)
    return both


@every_exchange
@often
@given(history=any_history(AUCTIONS))
def test_auctions_trade_as_much_as_any_price_would(make: Make, history: History) -> None:
    exchange = history.open(make)
    at_market = {
        int(row["order"]) for row in history.tape if row["kind"] in (Kind.MARKET, Kind.STOP, Kind.TRAILING_STOP)
    }
    for row in range(len(history.tape)):
        message = history.tape[row]
        send(exchange, clock(message["time"]))
        at, view = int(message["instrument"]), exchange.view()
        if not 0 <= at < len(history.instruments) or view.phase[at] != Phase.CALL:
            send(exchange, history.tape[row : row + 1])
            continue
        bids, asks = resting(exchange, at, Side.BUY), resting(exchange, at, Side.SELL)
        answer = send(exchange, history.tape[row : row + 1])
        for event in answer.events[answer.events["what"] == What.UNCROSSED]:
            volume, price = int(event["quantity"]), int(event["price"])
            possible = volumes(bids, asks, history.instruments[at].n_ticks)
            most = max(possible.values())[0]
            reference = view.reference[at] or view.last[at]
            if volume == 0:
                assert price == 0
                assert most == 0 or (not reference and {order.order for order in bids + asks} <= at_market)
                continue
            best = min((-lots, difference) for lots, difference in possible.values())
            assert best == (-volume, possible[price][1])
            equal = [tick for tick, (lots, difference) in possible.items() if (-lots, difference) == best]
            if reference:
                assert (abs(price - reference), price) == min((abs(tick - reference), tick) for tick in equal)
            auction = answer.trades[answer.trades["aggressor"] == Side.AUCTION]
            assert auction["quantity"].sum() == volume
            assert (auction["price"] == price).all()


@every_exchange
@often
@given(history=any_history())
def test_trades_keep_limits_and_priority(make: Make, history: History) -> None:
    """No trade is beyond a limit or taken by a post-only order; an order trades first with the first of the book."""
    exchange = history.open(make)
    post = Flag.POST_ONLY | Flag.POST_SLIDE
    posted: set[int] = set()
    sides: dict[int, int] = {}
    limits: dict[int, int] = {}
    for row in range(len(history.tape)):
        message = history.tape[row]
        send(exchange, clock(message["time"]))
        at, number, kind, side = (int(message[name]) for name in ("instrument", "order", "kind", "side"))
        known = 0 <= at < len(history.instruments) and side in (Side.BUY, Side.SELL)
        opposite = resting(exchange, at, 1 - side) if known else []
        answer = send(exchange, history.tape[row : row + 1])
        if answer.outcomes["status"][0] != Status.REJECTED:
            if kind in ORDERS:
                sides[number] = side
            if kind == Kind.LIMIT and message["flags"] & post:
                posted.add(number)
            if kind in (Kind.LIMIT, Kind.STOP_LIMIT) or (kind == Kind.REPLACE and message["price"] > 0):
                limits[number] = int(message["price"])
        for trade in answer.trades:
            assert trade["aggressor"] == Side.AUCTION or int(trade["taker"]) not in posted
            for order in (int(trade["maker"]), int(trade["taker"])):
                if order in limits:
                    better = limits[order] - int(trade["price"])
                    assert better >= 0 if sides[order] == Side.BUY else better <= 0
        if kind in (Kind.LIMIT, Kind.MARKET) and len(answer.trades) and answer.trades["taker"][0] == number:
            first = answer.trades[0]
            gone = {int(event["order"]) for event in answer.events if event["what"] == What.REDUCE_ONLY_CANCELLED}
            others = [order for order in opposite if order.owner == ANONYMOUS or order.owner != message["owner"]]
            others = [order for order in others if order.order not in gone]
            if first["maker_owner"] == ANONYMOUS or first["maker_owner"] != message["owner"]:
                assert others[0].price == first["price"]
                assert others[0].order == first["maker"] or history.instruments[at].matching == "pro_rata"


@every_exchange
@often
@given(history=any_history())
def test_queues_keep_time_priority(make: Make, history: History) -> None:
    """Plain orders that stay at a level keep their order, and those that join it come last."""
    exchange = history.open(make)
    plain = {
        int(row["order"])
        for row in history.tape
        if row["kind"] == Kind.LIMIT and not row["flags"] & Flag.REDUCE_ONLY and not row["display"]
    }
    plain -= {int(row["order"]) for row in history.tape if row["kind"] == Kind.REPLACE}
    sides = [(at, side) for at in range(len(history.instruments)) for side in (Side.BUY, Side.SELL)]

    def queues() -> dict[tuple[int, int, int, bool], list[int]]:
        found: dict[tuple[int, int, int, bool], list[int]] = {}
        for at, side in sides:
            for order in resting(exchange, at, side):
                found.setdefault((at, side, order.price, order.hidden), []).append(order.order)
        return {level: [order for order in queue if order in plain] for level, queue in found.items()}

    before = queues()
    for _ in message_by_message(exchange, history.tape):
        after = queues()
        for level, queue in after.items():
            stayed = [order for order in before.get(level, []) if order in queue]
            assert queue[: len(stayed)] == stayed
        before = after


@every_exchange
@often
@given(history=any_history())
def test_fill_or_kill_is_all_or_nothing(make: Make, history: History) -> None:
    """Save for a market buy that runs out of its owner's cash."""
    exchange = history.open(make)
    for message, answer in message_by_message(exchange, history.tape):
        if message["kind"] == Kind.LIMIT and message["tif"] == TimeInForce.FOK:
            assert answer.outcomes["status"][0] in (Status.FILLED, Status.REJECTED)
        if message["kind"] == Kind.MARKET and message["tif"] == TimeInForce.FOK and not history.ledger:
            assert answer.outcomes["status"][0] in (Status.FILLED, Status.REJECTED)


@every_exchange
@often
@given(history=any_history(), cut=st.integers(0, 100))
def test_a_tape_may_be_sent_in_parts(make: Make, history: History, cut: int) -> None:
    whole, parts = history.open(make), history.open(make)
    expected = send(whole, history.tape)
    answers = send(parts, history.tape[:cut]), send(parts, history.tape[cut:])
    for name in Answer._fields:
        found = np.concatenate([getattr(answer, name) for answer in answers])
        assert (found == getattr(expected, name)).all()
        assert len(found) == len(getattr(expected, name))
    assert expected.outcomes.shape == history.tape.shape
