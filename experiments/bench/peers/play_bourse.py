"""The order book of bourse on a tape: nothing converted inside the pass. It numbers orders itself."""

import json
import sys
from array import array
from time import perf_counter

from bourse.core import OrderBook

ACTIVE = 1


def play(book: OrderBook, tape: list[tuple[int, ...]]) -> float:
    """Seconds of one pass. The time is set each time: orders of equal time and price would replace each other."""
    place, cancel, set_time = book.place_order, book.cancel_order, book.set_time
    number = [0] * (len(tape) + 1)
    start = perf_counter()
    for time, (kind, side, price, quantity, order) in enumerate(tape):
        set_time(time)
        if kind == 1:
            cancel(number[order])
        elif kind == 0:
            number[order] = place(side == 0, quantity, 0, price)
        else:
            place(side == 0, quantity, 0)
    return perf_counter() - start


path, repeat = sys.argv[1], int(sys.argv[2])
with open(path, "rb") as file:
    rows = array("i", file.read())
tape = list(zip(*(rows[column::5] for column in range(5)), strict=True))
seconds = []
for _ in range(repeat):
    book = OrderBook(0, 1)
    seconds.append(play(book, tape))
trades = book.get_trades()
best_bid, best_ask = book.bid_ask()
totals = {
    "volume": sum(trade[3] for trade in trades),
    "trades": len(trades),
    "live": sum(order[1] == ACTIVE for order in book.get_orders()),
    "best_bid": best_bid,
    "best_ask": best_ask,
}
print(json.dumps({"seconds": seconds, "messages": len(tape), "totals": totals}))
