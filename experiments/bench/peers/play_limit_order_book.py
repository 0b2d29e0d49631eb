"""limit-order-book on a tape: one call a message, nothing converted inside the pass. It reports no fills."""

import json
import sys
from array import array
from time import perf_counter

from limit_order_book import LimitOrderBook


def play(book: LimitOrderBook, tape: list[tuple[int, ...]]) -> float:
    """Seconds of one pass."""
    limit_sell, limit_buy, market_sell, market_buy = book.limit_sell, book.limit_buy, book.market_sell, book.market_buy
    cancel = book.cancel
    start = perf_counter()
    for kind, side, price, quantity, order in tape:
        if kind == 1:
            cancel(order)
        elif kind == 0:
            if side:
                limit_sell(order, quantity, price)
            else:
                limit_buy(order, quantity, price)
        elif side:
            market_sell(order, quantity)
        else:
            market_buy(order, quantity)
    return perf_counter() - start


path, repeat = sys.argv[1], int(sys.argv[2])
with open(path, "rb") as file:
    rows = array("i", file.read())
tape = list(zip(*(rows[column::5] for column in range(5)), strict=True))
seconds = []
for _ in range(repeat):
    book = LimitOrderBook()
    seconds.append(play(book, tape))
totals = {"live": book.count(), "best_bid": book.best_buy(), "best_ask": book.best_sell()}
print(json.dumps({"seconds": seconds, "messages": len(tape), "totals": totals}))
