"""The order book of the lessons: one behaviour a test, in prices and quantities."""

import numpy as np
import pytest

from abm.exchange import (
    ANONYMOUS,
    MESSAGE,
    Exchange,
    FeeTier,
    Instrument,
    Kind,
    OrderBook,
    Reject,
    Side,
    Status,
)
from abm.exchange.memory import MANY, Lent
from abm.exchange.messages import EVENT, Records


@pytest.fixture
def book() -> OrderBook:
    """Bids 99 (5) and 98 (5), asks 101 (5) and 102 (5), tick 0.5."""
    book = OrderBook(tick=0.5)
    for price in (99, 98):
        book.submit("buy", 5, price)
    for price in (101, 102):
        book.submit("sell", 5, price)
    return book


def test_a_market_order_walks_the_book(book: OrderBook) -> None:
    receipt = book.submit("buy", 7)
    assert receipt.status == Status.FILLED
    assert [(fill.price, fill.quantity) for fill in receipt.fills] == [(101, 5), (102, 2)]
    assert (book.best_bid, book.best_ask, book.last) == (99, 102, 102)


def test_what_the_book_lacks_is_cancelled(book: OrderBook) -> None:
    receipt = book.submit("sell", 12)
    assert (receipt.status, receipt.filled) == (Status.CANCELLED, 10)
    assert book.best_bid is None


def test_time_priority_is_kept_on_a_reduction_and_lost_on_an_increase(book: OrderBook) -> None:
    first, second = (book.submit("buy", 4, 99.5).order_id for _ in range(2))
    book.reduce(first, 1)
    assert book.queue_position(second) == (1, 3)
    book.replace(first, quantity=2)
    assert book.queue_position(second) == (1, 2)
    book.replace(first, quantity=6)
    assert book.queue_position(first) == (1, 4)
    assert book.submit("sell", 5, 99.5).fills[0].maker == second


def test_an_id_is_never_used_again(book: OrderBook) -> None:
    filled = book.submit("buy", 1, 101).order_id
    gone = book.submit("buy", 1, 97).order_id
    book.cancel(gone)
    for order in (filled, gone):
        assert book.cancel(order).reject == Reject.ORDER_DONE
    assert book.cancel(10_000).reject == Reject.UNKNOWN_ORDER
    assert len({book.submit("buy", 1, 90).order_id for _ in range(50)}) == 50


@pytest.mark.parametrize(
    ("order", "reject"),
    [
        ({"quantity": 0, "price": 99}, Reject.BAD_QUANTITY),
        ({"quantity": -1, "price": 99}, Reject.BAD_QUANTITY),
        ({"quantity": 1.5, "price": 99}, Reject.OFF_LOT),
        ({"quantity": 1, "price": 99.3}, Reject.OFF_TICK),
        ({"quantity": 1, "price": -1}, Reject.BAD_PRICE),
        ({"quantity": 1, "price": float("nan")}, Reject.TOO_LARGE),
        ({"quantity": 1, "price": 1e300}, Reject.TOO_LARGE),
        ({"quantity": 1, "price": 101, "post_only": True}, Reject.WOULD_TRADE),
        ({"quantity": 6, "price": 101, "tif": "fok"}, Reject.NOT_FILLABLE),
        ({"quantity": 1, "price": 99, "tif": "gtd", "expiry": 0}, Reject.EXPIRED),
        ({"quantity": 1, "price": 99, "hidden": True, "display": 1}, Reject.BAD_COMBINATION),
        ({"quantity": 1, "type": "stop"}, Reject.BAD_TRIGGER),
    ],
)
def test_each_refusal_has_its_reason(book: OrderBook, order: dict[str, object], reject: Reject) -> None:
    before = book.depth()
    receipt = book.submit("buy", **order)  # type: ignore[arg-type]
    assert (receipt.status, receipt.reject) == (Status.REJECTED, reject)
    assert before.equals(book.depth())


def test_a_sliding_post_only_order_stops_one_tick_short(book: OrderBook) -> None:
    assert book.submit("buy", 1, 103, post_only="slide").status == Status.RESTING
    assert book.best_bid == 100.5


def test_an_iceberg_shows_its_parts_one_after_the_other(book: OrderBook) -> None:
    book.submit("sell", 6, 100, display=2)
    assert book.depth(1)["ask_quantity"][0] == 2
    assert [fill.quantity for fill in book.submit("buy", 5, 100).fills] == [2, 2, 1]
    assert book.depth(1)["ask_quantity"][0] == 1


def test_a_hidden_order_trades_and_is_not_shown(book: OrderBook) -> None:
    book.submit("sell", 1, 100, hidden=True)
    assert book.best_ask == 101
    assert book.submit("buy", 1, 100).fills[0].price == 100


def test_a_stop_enters_when_the_last_trade_reaches_it(book: OrderBook) -> None:
    stop = book.submit("sell", 5, type="stop", trigger=99)
    assert stop.status == Status.PENDING
    book.submit("sell", 1)
    assert (book.best_bid, book.last) == (98, 98)
    assert book.cancel(stop.order_id).reject == Reject.ORDER_DONE


def test_a_stop_by_mark_ignores_trades(book: OrderBook) -> None:
    book.submit("sell", 5, type="stop", trigger=99, by_mark=True)
    book.submit("sell", 1)
    assert book.last == 99
    book.mark(99)
    assert book.best_bid == 98


def test_a_trailing_stop_follows_the_best_price(book: OrderBook) -> None:
    book.submit("buy", 1, 101)
    book.submit("sell", 4, type="trailing_stop", distance=2.5)
    book.submit("buy", 5, 102)  # last 102: the trigger rises to 99.5
    book.submit("sell", 1, 99.5)
    assert book.submit("buy", 1, 99.5).filled == 1
    assert book.depth(1)["bid_quantity"][0] == 1  # 5 at 99 less the 4 of the stop


def test_a_peg_follows_the_best_price_that_others_make(book: OrderBook) -> None:
    peg = book.submit("buy", 1, type="pegged", distance=0.5).order_id
    book.submit("buy", 1, 100)
    order = book.exchange.order(peg)
    assert order is not None and order["price"] * 0.5 == 99.5


def test_orders_of_one_owner_do_not_trade_with_one_another_if_asked(book: OrderBook) -> None:
    own = book.submit("sell", 5, 100, owner="ann").order_id
    receipt = book.submit("buy", 2, 100, owner="ann", self_trade="cancel_incoming")
    assert (receipt.status, receipt.reject) == (Status.CANCELLED, Reject.SELF_TRADE)
    assert book.submit("buy", 2, 100, owner="ann", self_trade="cancel_resting").status == Status.RESTING
    assert book.cancel(own).reject == Reject.ORDER_DONE


def test_an_order_good_till_a_time_is_gone_then(book: OrderBook) -> None:
    book.submit("buy", 1, 100, tif="gtd", expiry=2)
    book.advance(1.9)
    assert book.best_bid == 100
    book.advance(0.2)
    assert book.best_bid == 99


def test_a_call_auction_trades_at_one_price(book: OrderBook) -> None:
    book.call()
    book.submit("buy", 8, 102)
    book.submit("sell", 3, 98.5)
    assert book.last is None
    fills = book.uncross()
    assert {fill.price for fill in fills} == {101} and sum(fill.quantity for fill in fills) == 8


def test_pro_rata_shares_by_size_and_gives_the_rest_by_time() -> None:
    book = OrderBook(
        instrument=Instrument(name="x", kind="perpetual", tick=1, lot=1, max_price=1000, matching="pro_rata")
    )
    makers = [book.submit("sell", quantity, 100).order_id for quantity in (6, 3, 1)]
    fills = book.submit("buy", 5, 100).fills
    assert [(fill.maker, fill.quantity) for fill in fills] == [(makers[0], 4), (makers[1], 1)]


def test_reading_costs_and_depths(book: OrderBook) -> None:
    exchange = book.exchange
    assert exchange.depth_within(0, 100) == (5, 5)
    assert exchange.depth_within(0, 500) == (10, 10)
    cost = exchange.cost_to_trade(0, Side.BUY, 5 * 101 + 3 * 102)
    assert (cost.lots, cost.worst_price, cost.complete) == (8, 204, True)
    assert cost.slippage_bps == pytest.approx((811 / 8 / 100 - 1) * 1e4)
    assert not exchange.cost_to_trade(0, Side.SELL, 1e9).complete
    with pytest.raises(ValueError, match="read-only"):
        exchange.depth(0, 2).bid_price[0] = 1


def test_the_ledger_moves_coins_cash_and_fees_to_the_unit() -> None:
    fees = (FeeTier(maker=0.0002, taker=0.0005),)
    exchange = Exchange(
        [Instrument(name="btc", tick=0.01, lot=0.001, max_price=200_000, fees=fees)], accounts=2, ledger=True
    )
    accounts = exchange.accounts
    accounts.position[0, 0], accounts.cash[1] = 5000, 400_000 * 10**6
    tape = np.zeros(2, MESSAGE)
    tape["order"], tape["owner"], tape["price"], tape["quantity"] = (1, 2), (0, 1), 8_000_000, (5000, 2000)
    tape["side"] = (Side.SELL, Side.BUY)
    exchange.match(tape)
    assert list(accounts.position[:, 0]) == [3000, 2000]
    assert accounts.position_reserved[0, 0] == 3000
    assert list(accounts.cash) == [160_000 * 10**6 - 32 * 10**6, 240_000 * 10**6 - 80 * 10**6]
    assert accounts.fees == 112 * 10**6


def test_nobody_spends_more_than_he_has() -> None:
    exchange = Exchange([Instrument(name="btc", tick=0.01, lot=0.001, max_price=200_000)], accounts=2, ledger=True)
    exchange.accounts.cash[:] = 1000 * 10**6
    tape = np.zeros(3, MESSAGE)
    tape["order"], tape["owner"], tape["price"], tape["quantity"] = (1, 2, 3), (0, 0, 1), 6_000_000, (10, 10, 1)
    tape["side"] = (Side.BUY, Side.BUY, Side.SELL)
    outcomes = exchange.match(tape).outcomes
    assert list(outcomes["status"]) == [Status.RESTING, Status.REJECTED, Status.REJECTED]
    assert list(outcomes["reject"][1:]) == [Reject.INSUFFICIENT_FUNDS] * 2


def test_prices_far_apart_cost_no_walk_and_little_memory() -> None:
    exchange = Exchange([Instrument(name="x", kind="perpetual", tick=0.01, lot=1, max_price=10_000_000)])
    tape = np.zeros(3, MESSAGE)
    tape["owner"], tape["order"], tape["price"], tape["quantity"] = (
        ANONYMOUS,
        (1, 2, 3),
        (1, 999_999_999, 500_000_000),
        1,
    )
    tape["side"] = (Side.BUY, Side.SELL, Side.SELL)
    exchange.match(tape)
    assert exchange.view().best_ask[0] == 500_000_000
    cancel = np.zeros(1, MESSAGE)
    cancel["kind"], cancel["order"], cancel["owner"] = Kind.CANCEL, 3, ANONYMOUS
    exchange.match(cancel)
    assert exchange.view().best_ask[0] == 999_999_999
    assert exchange._memory.engine["next_page"][0] <= 4


def crossing_pairs(first_id: int, count: int, price: int) -> Records:
    """A buy and a sale that trade, `count` times over."""
    tape = np.zeros(2 * count, MESSAGE)
    tape["order"], tape["owner"], tape["quantity"] = first_id + np.arange(2 * count), -1, 1
    tape["price"], tape["side"][1::2] = price, Side.SELL
    return tape


def test_a_long_report_stays_as_it_is_for_as_long_as_a_part_of_it_is_held() -> None:
    exchange = Exchange([Instrument(name="x", tick=1.0, lot=1.0, max_price=1000.0)])
    length = 2 * MANY
    prices, filled, reports = [], [], []
    for k in range(6):
        report = exchange.match(crossing_pairs(1 + 2 * length * k, length, 100 + k))
        if k % 2 == 0:
            prices.append(report.trades["price"][10:])
            filled.append(report.outcomes["filled"])
        else:
            reports.append(report)
            del reports[:-1]
    assert [set(held.tolist()) for held in prices] == [{100}, {102}, {104}]
    assert all(held.tolist() == [0, 1] * length for held in filled)
    assert set(reports[0].trades["price"].tolist()) == {105}


def test_a_lent_array_is_written_again_only_once_nobody_holds_a_part_of_it() -> None:
    lent = Lent(EVENT)
    array = lent.take(10)
    place, part = array.ctypes.data, array["price"][2:5]
    lent.lend(array)
    del array
    assert lent.take(5).ctypes.data != place
    del part
    assert lent.take(11).ctypes.data != place
    assert lent.take(5).ctypes.data == place
