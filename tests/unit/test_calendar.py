"""Sessions: who may trade when, and that opening and closing are auctions where the calendar says so."""

from datetime import UTC, datetime
from itertools import count

import numpy as np

from abm.exchange import (
    MESSAGE,
    Batch,
    Calendar,
    Exchange,
    Gateway,
    Instrument,
    Kind,
    MarketWideBreaker,
    Phase,
    Reject,
    Side,
    Status,
    TimeInForce,
    What,
)
from abm.exchange.messages import Records

HOUR = 3600 * 10**9
SHARE = Instrument(
    name="share",
    kind="perpetual",
    tick=0.01,
    lot=1,
    max_price=1000,
    calendar=Calendar(opening_call=600, closing_call=300),
)
COIN = Instrument(name="coin", kind="perpetual", tick=1, lot=1, max_price=1000)
THURSDAY = datetime(2026, 2, 5, tzinfo=UTC)  # New York opens at 14:30 and closes at 21:00 UTC


def order(number: int, side: Side, price: int, instrument: int = 0, tif: TimeInForce = TimeInForce.GTC) -> Records:
    message: Records = np.zeros(1, MESSAGE)
    message["order"], message["side"], message["price"], message["quantity"] = number, side, price, 1
    message["instrument"], message["tif"], message["owner"] = instrument, tif, number
    return message


def test_a_day_opens_and_closes_by_auction() -> None:
    exchange = Exchange([SHARE, COIN])
    gateway = Gateway(exchange, start=THURSDAY)
    phases, events = {}, []
    for half_hour in range(1, 49):
        end = half_hour * HOUR // 2
        sent = [order(100 * half_hour + side, Side(side), 5000 + 10 * (1 - 2 * side)) for side in (0, 1)]
        for message in sent:
            message["time"] = end - HOUR // 60  # a minute before the half hour
            message["tif"] = TimeInForce.DAY
        report = exchange.match(gateway.arrange([Batch(message) for message in sent], end))
        phases[half_hour / 2] = (Phase(exchange.view().phase[0]), Reject(report.outcomes["reject"][-2]))
        events += [(What(row["what"]), row["time"] / HOUR) for row in report.events if row["instrument"] == 0]
    assert phases[14] == (Phase.CLOSED, Reject.CLOSED)
    assert phases[14.5] == (Phase.CONTINUOUS, Reject.NONE)  # sent in the call of 14:20 to 14:30
    assert phases[21] == (Phase.CLOSED, Reject.NONE)  # sent in the call of 20:55 to 21:00
    assert phases[21.5] == (Phase.CLOSED, Reject.CLOSED)
    assert [at for what, at in events if what == What.UNCROSSED] == [14.5, 21.0]
    assert exchange.view().phase[1] == Phase.CONTINUOUS


def test_day_orders_take_part_in_the_closing_auction_and_then_end() -> None:
    exchange = Exchange([SHARE])
    gateway = Gateway(exchange, start=THURSDAY)
    exchange.match(gateway.arrange([], 20 * HOUR))
    late = [order(1, Side.BUY, 5000, tif=TimeInForce.DAY), order(2, Side.SELL, 5000), order(3, Side.BUY, 4000)]
    late[2]["tif"] = TimeInForce.DAY
    for message in late:
        message["time"] = 21 * HOUR - HOUR // 60
    report = exchange.match(gateway.arrange([Batch(message) for message in late], 22 * HOUR))
    assert report.trades["price"].tolist() == [5000]
    assert [(What(row["what"]), row["order"]) for row in report.events if row["order"]] == [(What.EXPIRED, 3)]
    assert report.outcomes["status"][1:4].tolist() == [Status.RESTING] * 3


def test_a_run_that_starts_within_a_session_starts_open_and_weekends_are_closed() -> None:
    for start, phase in (
        (datetime(2026, 2, 5, 15, tzinfo=UTC), Phase.CONTINUOUS),
        (datetime(2026, 2, 5, 14, 25, tzinfo=UTC), Phase.CALL),
        (datetime(2026, 2, 5, 3, tzinfo=UTC), Phase.CLOSED),
        (datetime(2026, 2, 7, 16, tzinfo=UTC), Phase.CLOSED),
    ):
        exchange = Exchange([SHARE])
        exchange.match(Gateway(exchange, start=start).arrange([], 1))
        assert exchange.view().phase[0] == phase


def test_the_messages_do_not_depend_on_how_often_one_asks() -> None:
    def tape(step: int) -> Records:
        exchange = Exchange([SHARE])
        gateway = Gateway(exchange, start=THURSDAY)
        tapes = []
        for end in range(step, 120 * HOUR + 1, step):
            tapes.append(gateway.arrange([], end))
            exchange.match(tapes[-1])
        whole = np.concatenate(tapes)
        return whole[whole["kind"] != Kind.CLOCK]

    once, often = tape(120 * HOUR), tape(HOUR // 2)
    assert once.tobytes() == often.tobytes()
    assert len(once) == 1 + 2 * 4 + 4  # Thursday, Friday, Monday, and how it stands at the start


def test_hours_that_close_earlier_than_they_open_close_on_the_next_day() -> None:
    futures = Calendar(opens="18:00", closes="17:00")  # New York, with an hour's rest each evening
    thursday, monday = datetime(2026, 2, 5, tzinfo=UTC), datetime(2026, 2, 9, 23, 30, tzinfo=UTC)
    assert futures.between(thursday, monday) == [
        (datetime(2026, 2, 4, 23, tzinfo=UTC), datetime(2026, 2, 5, 22, tzinfo=UTC)),
        (datetime(2026, 2, 5, 23, tzinfo=UTC), datetime(2026, 2, 6, 22, tzinfo=UTC)),
        (datetime(2026, 2, 8, 23, tzinfo=UTC), datetime(2026, 2, 9, 22, tzinfo=UTC)),
        (datetime(2026, 2, 9, 23, tzinfo=UTC), datetime(2026, 2, 10, 22, tzinfo=UTC)),
    ]


def test_calls_begin_before_the_opening_and_before_the_closing() -> None:
    calendar, day = SHARE.calendar, datetime(2026, 2, 5, 14, 20, tzinfo=UTC)
    assert calendar is not None
    opening, closing = day, datetime(2026, 2, 5, 20, 55, tzinfo=UTC)
    assert calendar.calls(THURSDAY, datetime(2026, 2, 6, tzinfo=UTC)) == [opening, closing]
    assert calendar.calls(opening, closing) == [opening]
    assert calendar.calls(opening, datetime(2026, 2, 5, 14, 25, tzinfo=UTC)) == [opening]  # ends within the call
    assert Calendar().calls(THURSDAY, datetime(2026, 2, 6, tzinfo=UTC)) == []


def test_a_market_wide_breaker_counts_from_the_last_close_and_once_a_day() -> None:
    """7 % below 100 on the first day, then below where the day before closed; an auction in between changes nothing."""
    index = SHARE.model_copy(
        update={
            "reference_price": 100.0,
            "rules": (MarketWideBreaker(fall=0.07, halt=900, call=60, instruments=("share",)),),
        }
    )
    exchange = Exchange([index])
    gateway = Gateway(exchange, start=THURSDAY)
    numbers = count(1)

    def trade(minutes: float, ticks: int) -> Phase:
        """The phase after a trade so many minutes after New York's opening of Thursday."""
        at = HOUR * 29 // 2 + round(minutes * HOUR / 60)
        sent = [order(next(numbers), side, ticks) for side in (Side.SELL, Side.BUY)]
        for message in sent:
            message["time"] = at - HOUR // 3600
        exchange.match(gateway.arrange([Batch(message) for message in sent], at))
        return Phase(exchange.view().phase[0])

    assert trade(-1, 9_500) == Phase.CALL  # it opens at 95
    assert trade(1, 9_301) == Phase.CONTINUOUS
    assert trade(2, 9_300) == Phase.HALTED
    assert trade(17.5, 9_000) == Phase.CALL  # it reopens at 90
    assert trade(19, 8_300) == Phase.CONTINUOUS  # seven per cent below 90, but it has stopped once today
    assert trade(389, 9_000) == Phase.CALL  # the close
    day = 24 * 60
    assert trade(day - 1, 8_800) == Phase.CALL  # it opens at 88
    assert trade(day + 1, 8_371) == Phase.CONTINUOUS
    assert trade(day + 2, 8_370) == Phase.HALTED


def test_futures_rest_for_an_hour_and_over_the_weekend() -> None:
    gold = COIN.model_copy(update={"name": "gold", "calendar": Calendar(opens="18:00", closes="17:00")})
    exchange = Exchange([gold])
    gateway = Gateway(exchange, start=THURSDAY)
    open_hours = []
    for hour in range(1, 97):
        exchange.match(gateway.arrange([], hour * HOUR))
        if exchange.view().phase[0] == Phase.CONTINUOUS:
            open_hours.append(hour)
    # Open from the start to 22:00, from 23:00 to Friday 22:00, and again from Sunday 23:00 on
    assert open_hours == [*range(1, 22), *range(23, 46), 95, 96]
