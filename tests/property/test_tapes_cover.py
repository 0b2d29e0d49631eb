"""The random tapes reach everything the exchange can do: a generator that stops producing something fails here."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from abm.exchange.messages import Kind, Reject, SelfTrade, Status, TimeInForce, What
from tests.reference.exchange import ReferenceExchange
from tests.reference.tapes import random_history, random_tape

OF_THE_GATEWAY = {Reject.OFF_TICK, Reject.OFF_LOT, Reject.TOO_LARGE, Reject.RATE_LIMIT}  # they come as REFUSED
OF_CLEARING = {Reject.POSITION_LIMIT}  # margined histories reach it: test_clearing_laws
OF_CREDIT = {Reject.FROZEN}  # the gateway refuses for a failed hub


@pytest.fixture(scope="module")
def seen() -> Counter[tuple[Any, ...]]:
    """What happened on a few hundred tapes, and how often."""
    found: Counter[tuple[Any, ...]] = Counter()
    for seed in range(300):
        history = random_history(seed, 300)
        exchange = history.open(ReferenceExchange)
        trades, outcomes, events, _ = exchange.match(history.tape)
        found.update(exchange.noted)
        found.update(("sent", int(kind), int(tif)) for kind, tif in history.tape[["kind", "tif"]].tolist())
        for status, reject in outcomes[["status", "reject"]].tolist():
            found["status", status] += 1
            found["cancelled" if status == Status.CANCELLED else "outcome", reject] += 1
        found.update(("event", what) for what in events["what"].tolist())
        found.update(("trade", aggressor) for aggressor in trades["aggressor"].tolist())
        failed = events[events["what"] == What.ACTIVATION_CANCELLED]
        found.update(("activation", reject) for reject in failed["detail"].tolist())
    return found


@pytest.mark.parametrize(
    "reject", [reject for reject in Reject if reject not in OF_THE_GATEWAY | OF_CLEARING | OF_CREDIT]
)
def test_every_reject_of_the_exchange_occurs(seen: Counter[tuple[Any, ...]], reject: Reject) -> None:
    """SELF_TRADE never rejects a message: it says why the rest of an order was cancelled."""
    assert seen["cancelled" if reject == Reject.SELF_TRADE else "outcome", reject] > 0


@pytest.mark.parametrize("reject", sorted(OF_THE_GATEWAY))
def test_every_refusal_of_the_gateway_is_passed_on(seen: Counter[tuple[Any, ...]], reject: Reject) -> None:
    assert seen["outcome", reject] > 0


@pytest.mark.parametrize("why", [Reject.NONE, Reject.SELF_TRADE, Reject.PRICE_BAND, Reject.INSUFFICIENT_FUNDS])
def test_every_reason_to_cancel_a_rest_occurs(seen: Counter[tuple[Any, ...]], why: Reject) -> None:
    assert seen["cancelled", why] > 0


@pytest.mark.parametrize(
    "why",
    [
        Reject.WRONG_PHASE,
        Reject.REDUCE_ONLY,
        Reject.PRICE_BAND,
        Reject.INSUFFICIENT_FUNDS,
        Reject.NOT_FILLABLE,
        Reject.WOULD_TRADE,
    ],
)
def test_every_failure_of_an_activation_occurs(seen: Counter[tuple[Any, ...]], why: Reject) -> None:
    assert seen["activation", why] > 0


@pytest.mark.parametrize("status", list(Status))
def test_every_status_occurs(seen: Counter[tuple[Any, ...]], status: Status) -> None:
    assert seen["status", status] > 0


@pytest.mark.parametrize("what", [what for what in What if what != What.LIQUIDATION_CANCELLED])
def test_every_event_occurs(seen: Counter[tuple[Any, ...]], what: What) -> None:
    assert seen["event", what] > 0


@pytest.mark.parametrize("rule", ["price_band", "breaker", "volatility_auction", "market_wide_breaker"])
def test_every_rule_acts(seen: Counter[tuple[Any, ...]], rule: str) -> None:
    assert seen["rule", rule] > 0


@pytest.mark.parametrize("matching", ["price_time", "pro_rata"])
@pytest.mark.parametrize("mode", list(SelfTrade))
def test_every_self_trade_mode_acts(seen: Counter[tuple[Any, ...]], mode: SelfTrade, matching: str) -> None:
    assert seen["self_trade", mode, matching] > 0


@pytest.mark.parametrize("kind", [Kind.LIMIT, Kind.MARKET, Kind.STOP, Kind.STOP_LIMIT, Kind.TRAILING_STOP, Kind.PEGGED])
def test_every_order_kind_is_sent_with_every_time_in_force(seen: Counter[tuple[Any, ...]], kind: Kind) -> None:
    assert all(seen["sent", kind, tif] > 0 for tif in TimeInForce)


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_is_sent(seen: Counter[tuple[Any, ...]], kind: Kind) -> None:
    assert any(seen["sent", kind, tif] > 0 for tif in range(256))


@pytest.mark.parametrize(
    "happening",
    [
        ("slid",),
        ("iceberg_refreshed",),
        ("reduce_only_cut",),
        ("pegs_moved",),
        ("peg_waits",),
        ("peg_unaffordable",),
        ("mean_renewed",),
        ("day_expired",),
        ("returned", Kind.LIMIT),
        ("returned", Kind.PEGGED),
        ("trade", 0),
        ("trade", 1),
        ("trade", 2),
    ],
    ids=str,
)
def test_finer_points_occur(seen: Counter[tuple[Any, ...]], happening: tuple[Any, ...]) -> None:
    key = happening if len(happening) > 1 else happening[0]
    assert seen[key] > 0


def test_a_tape_depends_on_its_seed_only() -> None:
    instruments = random_history(1, 1).instruments
    one, same, other = (random_tape(np.random.default_rng(seed), instruments, 50, accounts=4) for seed in (7, 7, 8))
    assert (one == same).all()
    assert (one != other).any()
    assert (np.diff(one["time"]) >= 0).all()
