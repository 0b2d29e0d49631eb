"""Whose doing a change of a mid was: nothing is left out, whatever is sent, and noting it changes nothing else."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from abm.exchange import Exchange
from abm.exchange.memory import QUEUES
from tests.property.engine import Engine
from tests.property.test_clearing_twin import ClearedEngine
from tests.reference.tapes import (
    MARGIN_MIXES,
    MIXES,
    History,
    MarginedHistory,
    histories,
    margined_histories,
    random_history,
    random_margined_history,
)


def twice_mids(exchange: Exchange) -> Iterator[int]:
    """Best bid and best ask of each instrument together, in ticks; 0 where a side is empty."""
    queues = exchange._memory.tables["queues"]
    for i in range(len(exchange.instruments)):
        bids, asks = queues[i * QUEUES], queues[i * QUEUES + 1]
        yield (
            int(bids["best"]) + int(asks["best"])
            if bids["best"] != bids["none"] and asks["best"] != asks["none"]
            else 0
        )


def check(exchange: Exchange, tape: np.ndarray) -> np.ndarray:
    """Play a tape, and hold what is noted against the mids after each message. Answers the shifts."""
    known = [2 * exchange.instruments[i].ticks(x.reference_price or 0) for i, x in enumerate(exchange.instruments)]
    noted = []
    for k in range(len(tape)):
        exchange.match(tape[k : k + 1])
        shifts = exchange.take_shifts()
        noted.append(shifts)
        assert (shifts["change"] != 0).all()
        for i, now in enumerate(twice_mids(exchange)):
            change = int(shifts["change"][shifts["instrument"] == i].sum())
            if (
                known[i] == 0
            ):  # without a reference price counting begins with the first mid, which may be gone by the end of its message
                known[i] = now
                continue
            known[i] += change
            assert now in (0, known[i]), f"message {k}, instrument {i}"
    return np.concatenate([exchange.take_shifts(), *noted])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories())
def test_shifts_add_up_to_the_way_of_each_mid(history: History) -> None:
    check(history.open(Engine).exchange, history.tape)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(margined_histories())
def test_shifts_add_up_where_positions_are_liquidated(history: MarginedHistory) -> None:
    check(history.open(ClearedEngine).exchange, history.tape)


@pytest.mark.parametrize("mix", range(len(MIXES)))
def test_shifts_of_long_tapes(mix: int) -> None:
    history = random_history(70_000 + mix, 1500, mix=MIXES[mix])
    shifts = check(history.open(Engine).exchange, history.tape)
    assert len(shifts) > 10
    together = history.open(Engine).exchange
    together.match(history.tape)
    assert together.take_shifts().tobytes() == shifts.tobytes()


@pytest.mark.parametrize("mix", range(len(MARGIN_MIXES)))
def test_shifts_of_long_tapes_with_margin(mix: int) -> None:
    history = random_margined_history(70_000 + mix, 1500, mix=MARGIN_MIXES[mix])
    assert len(check(history.open(ClearedEngine).exchange, history.tape)) > 10


@pytest.mark.parametrize("seed", range(4))
def test_noting_changes_nothing_else(seed: int) -> None:
    history = random_history(71_000 + seed, 800)
    noting, plain = history.open(Engine).exchange, history.open(Engine).exchange
    plain._memory["noting"] = 0
    for mine, wanted in zip(noting.match(history.tape), plain.match(history.tape), strict=True):
        assert mine.tobytes() == wanted.tobytes()
    assert len(plain.take_shifts()) == 0
