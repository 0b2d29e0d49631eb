"""Each change of a mid belongs to the order, the withdrawal or the liquidation that made it."""

from typing import Any

import numpy as np

from abm.exchange import ANONYMOUS, Exchange, Kind, Phase, Reason, Side, TimeInForce
from abm.exchange.messages import MESSAGE, Records
from tests.unit.test_house import Venue, perpetual

BUY, SELL = Side.BUY, Side.SELL
Shift = tuple[int, int, int, int]


class Noted(Venue):
    """A venue that notes shifts; `moved` sends messages and tells them as (change, owner, reason, traded)."""

    def __init__(self, **terms: Any) -> None:
        super().__init__(perpetual(tick=1.0, **terms), cash=1e7, fund=1e6)
        self.exchange._memory["noting"] = 1
        self.send(self.order(0, BUY, 1, 79_990, reason=Reason.MARKET_MAKING))
        self.send(self.order(0, SELL, 1, 80_010, reason=Reason.MARKET_MAKING))
        self.exchange.take_shifts()

    def moved(self, *rows: Records) -> list[Shift]:
        self.send(*rows)
        shifts = self.exchange.take_shifts()
        return [(int(s["change"]), int(s["owner"]), int(s["reason"]), int(s["traded"])) for s in shifts]


def test_a_quote_belongs_to_who_places_and_who_withdraws_it() -> None:
    venue = Noted()
    better = venue.order(1, BUY, 1, 80_000, reason=Reason.VALUE)
    assert venue.moved(better) == [(10, 1, Reason.VALUE, 0)]
    assert venue.moved(venue.order(2, BUY, 1, 79_000, reason=Reason.NOISE)) == []  # behind the best
    cancel = venue.message(Kind.CANCEL, "btc-perp", owner=1, order=better["order"][0])
    assert venue.moved(cancel) == [
        (-10, 1, Reason.VALUE, 0)
    ]  # the reason is that of the order, which says why it was there


def test_a_trade_belongs_to_the_taker() -> None:
    venue = Noted()
    venue.send(venue.order(1, SELL, 1, 80_030))
    taker = venue.order(3, BUY, 1, 80_010, reason=Reason.TREND)
    assert venue.moved(taker) == [(20, 3, Reason.TREND, 1)]
    rests = venue.order(4, BUY, 2, 80_030, reason=Reason.PANIC)  # takes the last offer, and what is left rests
    assert venue.moved(rests) == []  # no offer is left: there is no mid
    assert venue.moved(venue.order(5, SELL, 1, 80_100, reason=Reason.NOISE)) == [
        (80_030 + 80_100 - 79_990 - 80_030, 5, Reason.NOISE, 0)
    ]


def test_each_order_of_a_mass_withdrawal_and_an_expiry_counts_for_itself() -> None:
    venue = Noted()
    timed = {"tif": TimeInForce.GTD, "expiry": 1_000}
    venue.send(
        venue.order(1, BUY, 1, 79_995, reason=Reason.VALUE),
        venue.order(1, BUY, 1, 80_000, reason=Reason.TREND, **timed),
    )
    venue.exchange.take_shifts()
    venue.time = 2_000
    clock = venue.message(Kind.CLOCK, "btc-perp")
    assert venue.moved(clock) == [(-5, 1, Reason.TREND, 0)]
    assert venue.moved(venue.message(Kind.MASS_CANCEL, "btc-perp", owner=1)) == [(-5, 1, Reason.VALUE, 0)]


def test_a_liquidation_is_told_apart_from_what_set_it_off() -> None:
    venue = Noted()
    venue.house.set_terms(venue.rows(3), "btc-perp", 20, True)
    venue.send(venue.order(3, BUY, 1, 80_010))  # takes the only offer
    venue.send(venue.order(0, SELL, 5, 80_020), venue.order(0, BUY, 1, 77_000), venue.order(0, BUY, 5, 76_900))
    venue.exchange.take_shifts()
    venue.time += 1
    mark = venue.message(Kind.MARK, "btc-perp", price=76_300)
    moved = venue.moved(mark)
    assert [shift[1:] for shift in moved] == [(3, Reason.LIQUIDATION, 1)]
    assert moved[0][0] < 0


def test_what_the_exchange_does_belongs_to_nobody() -> None:
    venue = Noted()
    venue.send(venue.message(Kind.PHASE, "btc-perp", side=Phase.CALL))
    venue.send(venue.order(1, BUY, 1, 80_010))  # crosses in the call, and trades as it ends
    venue.exchange.take_shifts()
    moved = venue.moved(venue.message(Kind.PHASE, "btc-perp", side=Phase.CONTINUOUS))
    assert all(owner == ANONYMOUS and traded for _, owner, _, traded in moved)


def test_nothing_is_noted_unless_asked_for() -> None:
    exchange = Exchange([perpetual()], accounts=2, ledger=True)
    order = np.zeros(1, MESSAGE)
    exchange.match(order)
    assert len(exchange.take_shifts()) == 0
