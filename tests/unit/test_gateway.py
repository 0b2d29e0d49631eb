"""The way in: latency, order of arrival, limits at the door."""

import numpy as np
import pytest

from abm.exchange import ANONYMOUS, MESSAGE, Batch, Exchange, Gateway, Instrument, Kind, Latency, Limits, Reject
from abm.exchange.messages import Records

SECOND = 10**9
BTC = Instrument(name="btc", kind="perpetual", tick=1, lot=1, max_price=1000)


def orders(count: int, owner: int, time: int = 0) -> Records:
    messages: Records = np.zeros(count, MESSAGE)
    messages["owner"], messages["time"], messages["price"], messages["quantity"] = owner, time, 100, 1
    return messages


def test_the_tape_is_sorted_by_arrival_and_ends_with_the_clock() -> None:
    exchange = Exchange([BTC])
    slow, fast, rng = Latency(base=900, spread=50), Latency(base=1), np.random.default_rng(1)
    batches = [Batch(orders(20, 1), slow.draw(rng, 20)), Batch(orders(5, 2), fast.draw(rng, 5))]
    tape = Gateway(exchange).arrange(batches, SECOND)
    assert list(tape["owner"][:5]) == [2] * 5
    assert np.all(np.diff(tape["time"]) >= 0)
    assert tape["kind"][-1] == Kind.CLOCK and tape["time"][-1] == SECOND and tape["owner"][-1] == ANONYMOUS
    exchange.match(tape)
    assert exchange.time == SECOND


def test_one_more_trader_changes_nobody_elses_arrival() -> None:
    def arrivals(*batches: Batch) -> list[int]:
        tape = Gateway(Exchange([BTC])).arrange(batches, SECOND)
        return sorted(tape["time"][tape["owner"] == 1].tolist())

    def mine() -> Batch:
        return Batch(orders(30, 1), Latency(base=1, spread=20).draw(np.random.default_rng(7), 30))

    other = Batch(orders(10, 2), Latency(spread=5).draw(np.random.default_rng(8), 10))
    assert arrivals(mine()) == arrivals(other, mine())


@pytest.mark.parametrize("shape", ["exponential", "lognormal", "uniform"])
def test_the_mean_latency_is_base_plus_spread(shape: str) -> None:
    drawn = Latency(base=2, spread=3, shape=shape).draw(np.random.default_rng(3), 200_000)  # type: ignore[arg-type]
    assert drawn.min() >= 2_000_000
    assert drawn.mean() == pytest.approx(5_000_000, rel=0.01)


def test_what_an_owner_sends_at_one_moment_arrives_in_the_order_it_was_sent() -> None:
    sent = np.concatenate([orders(3, 1, time=5), orders(1, ANONYMOUS, time=5), orders(2, 4, time=7)])
    sent["order"] = [10, 11, 12, 1, 2, 3]
    tape = Gateway(Exchange([BTC])).arrange([Batch(sent, np.array([300, 100, 200, 9, 9, 9]))], SECOND)
    assert tape["order"][:-1].tolist() == [1, 2, 3, 10, 11, 12]
    assert tape["time"][:-1].tolist() == [105, 207, 207, 305, 305, 305]


def test_the_rate_limit_counts_over_tapes_and_by_owner() -> None:
    exchange = Exchange([BTC])
    gateway = Gateway(exchange, Limits(messages_per_second=3))
    first = gateway.arrange([Batch(orders(2, 1, 0)), Batch(orders(3, 2, 0))], SECOND // 2)
    exchange.match(first)
    assert not np.any(first["kind"] == Kind.REFUSED)
    second = gateway.arrange([Batch(orders(2, 1, SECOND // 2)), Batch(orders(1, 3, SECOND // 2))], SECOND)
    refused = second["kind"] == Kind.REFUSED
    assert list(second["owner"][refused]) == [1]
    assert list(exchange.match(second).outcomes["reject"][refused]) == [Reject.RATE_LIMIT]
    third = gateway.arrange([Batch(orders(3, 1, 2 * SECOND))], 3 * SECOND)
    assert not np.any(third["kind"] == Kind.REFUSED)


def test_a_check_of_means_can_be_hooked_in() -> None:
    exchange = Exchange([BTC])
    gateway = Gateway(exchange, buying_power=lambda tape: tape["owner"] != 2)
    batch = [Batch(orders(1, 1)), Batch(orders(1, 2))]
    batch[0].messages["order"], batch[1].messages["order"] = exchange.take_ids(2), 2
    report = exchange.match(gateway.arrange(batch, SECOND))
    assert list(report.outcomes["reject"][:2]) == [Reject.NONE, Reject.INSUFFICIENT_FUNDS]
