"""The compiled pass and its plain twin agree, record for record, on anything that can be sent to an exchange."""

import errno
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from abm.exchange import CheckpointError, Exchange, Kind, Phase
from abm.exchange.messages import Records
from tests.property.engine import Engine, assert_levels_agree
from tests.reference.exchange import ReferenceExchange
from tests.reference.tapes import MIXES, STEADY_MIX, History, histories, random_history

VIEW = ("best_bid", "best_ask", "bid_quantity", "ask_quantity", "last", "mark", "reference", "phase")


def assert_same_rows(ours: Records, theirs: Records, what: str) -> None:
    for field in theirs.dtype.names or ():
        np.testing.assert_array_equal(ours[field], theirs[field], f"{what}: {field}")


def assert_same_state(ours: Engine, theirs: ReferenceExchange, history: History) -> None:
    view, wanted = ours.exchange.view(), theirs.view()
    for field in VIEW:
        assert list(getattr(view, field)) == list(getattr(wanted, field)), field
    for i in range(len(history.instruments)):
        for side in (0, 1):
            assert ours.levels(i, side) == theirs.levels(i, side)
            for price in theirs.levels(i, side):
                assert_same_rows(ours.queue(i, side, price), theirs.queue(i, side, price), f"queue {i}/{side}/{price}")
    for owner in range(history.accounts):
        assert list(ours.exchange.open_orders(owner)) == theirs.open_orders(owner)
    if history.accounts:
        np.testing.assert_array_equal(ours.position, theirs.position)
    if history.ledger:
        np.testing.assert_array_equal(ours.cash, theirs.cash)
        np.testing.assert_array_equal(ours.cash_reserved, theirs.cash_reserved)
        np.testing.assert_array_equal(ours.position_reserved, theirs.position_reserved)
        assert ours.fees == theirs.fees


def compare(history: History, size: int) -> None:
    """Play a history on both, `size` messages at a time."""
    ours, theirs = history.open(Engine), history.open(ReferenceExchange)
    for start in range(0, len(history.tape), size):
        part = history.tape[start : start + size]
        report = ours.match(part)
        for mine, wanted, what in zip(report, theirs.match(part), report._fields, strict=True):
            assert_same_rows(mine, wanted, f"{what} of messages {start} to {start + len(part)}")
        last = start + size >= len(history.tape)
        if last or (start // size) % 12 == 0:
            assert_same_state(ours, theirs, history)
            assert_levels_agree(ours.exchange)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories())
def test_agrees_on_histories_that_shrink(history: History) -> None:
    compare(history, 1)


@pytest.mark.parametrize("seed", range(60))
def test_agrees_message_by_message(seed: int) -> None:
    compare(random_history(10_000 + seed, 120), 1)


@pytest.mark.parametrize("size", [2, 7, 50, 400])
@pytest.mark.parametrize("seed", range(8))
def test_agrees_whatever_the_batches(size: int, seed: int) -> None:
    compare(random_history(20_000 + seed, 400), size)


@pytest.mark.parametrize("mix", range(len(MIXES)))
def test_agrees_on_long_tapes_of_each_mix(mix: int) -> None:
    compare(random_history(30_000 + mix, 1500, mix=MIXES[mix]), 500)


@pytest.mark.parametrize("seed", range(6))
def test_agrees_where_nothing_waits_to_follow(seed: int) -> None:
    compare(random_history(33_000 + seed, 1000, mix=STEADY_MIX), 500)


@pytest.mark.parametrize("seed", range(12))
def test_agrees_after_a_checkpoint_at_any_message(seed: int, tmp_path: Path) -> None:
    """Saved and loaded in mid-history the exchange goes on as if nothing had happened, down to the bytes of its next checkpoint."""
    history = random_history(40_000 + seed, 240)
    half = 20 * (1 + seed % 10)
    first, second = history.open(Engine).exchange, history.open(Engine).exchange
    for exchange in (first, second):
        exchange.match(history.tape[:half])
    second.save(tmp_path / "half.ckpt")
    second = Exchange.load(tmp_path / "half.ckpt")
    for mine, wanted in zip(second.match(history.tape[half:]), first.match(history.tape[half:]), strict=True):
        assert mine.tobytes() == wanted.tobytes()
    first.save(tmp_path / "first.ckpt")
    second.save(tmp_path / "second.ckpt")
    assert second.take_ids(1) == first.take_ids(1)
    assert Exchange.load(tmp_path / "first.ckpt").view()[0].tobytes() == second.view()[0].tobytes()


def test_continuous_books_are_never_crossed_or_locked() -> None:
    """Of all orders, hidden ones included: told by the engine's own queues."""
    for seed in range(12):
        history = random_history(50_000 + seed, 150)
        engine = history.open(Engine)
        for k in range(len(history.tape)):
            engine.match(history.tape[k : k + 1])
            for i, phase in enumerate(engine.exchange.view().phase):
                bids, asks = engine.levels(i, 0), engine.levels(i, 1)
                if phase == Phase.CONTINUOUS and bids and asks:
                    assert bids[0] < asks[0]


def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    history = random_history(7, 200)
    exchange = history.open(Engine).exchange
    exchange.match(history.tape)
    path = tmp_path / "x.ckpt"
    exchange.save(path)
    whole = path.read_bytes()
    for name, data in {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "flipped": bytes(byte ^ (1 if 200 < at < 260 else 0) for at, byte in enumerate(whole)),
        "text": b"not a checkpoint",
    }.items():
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"x\.ckpt: "):
            Exchange.load(path)
        assert name
    with pytest.raises(CheckpointError, match="there is no such file"):
        Exchange.load(tmp_path / "none.ckpt")


def test_a_tape_that_goes_back_in_time_is_refused() -> None:
    history = random_history(8, 50)
    exchange = history.open(Engine).exchange
    tape = history.tape.copy()
    tape["kind"], tape["time"][20] = Kind.CLOCK, -1
    with pytest.raises(ValueError, match="message 20 of the tape is earlier"):
        exchange.match(tape)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up half-way through."""
    history = random_history(9, 100)
    exchange = history.open(Engine).exchange
    path = tmp_path / "x.ckpt"
    exchange.save(path)
    before = path.read_bytes()
    exchange.match(history.tape)
    written = []

    def full(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
        written.append(name)
        if len(written) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError, match="No space left"):
        exchange.save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.statistical
@pytest.mark.parametrize("block", range(60))
def test_agrees_on_many_histories(block: int) -> None:
    """Rare combinations show up once in some hundred histories: 1 500 of them (some ten minutes)."""
    for seed in range(25):
        compare(random_history(100_000 + 25 * block + seed, 250), 1)
