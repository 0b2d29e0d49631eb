"""The mining network: what the formulas say, and blocks that come as the hashrate finds them."""

import numpy as np
import pytest

import abm
from abm.random import stream
from abm.world.mining import (
    EPOCH,
    Mining,
    MiningNetwork,
    break_even,
    hashprice,
    implied_hashrate,
    retargeted,
)

DIFFICULTY = 141.67e12
FULL = implied_hashrate(DIFFICULTY)


def empty(days: int) -> abm.Market:
    """A market of nobody, in steps of an hour."""
    plain = abm.load("first-hour")
    clock = {"end": f"2026-02-{5 + days:02d}T00:00Z", "step": "1h"}
    nobody = dict.fromkeys(plain.traders)
    return abm.Market(abm.load("first-hour", clock=clock, traders=nobody, **{"recording.interval": "1d"}))


def network(market: abm.Market, hashrate: float = FULL, **terms: float) -> MiningNetwork:
    return MiningNetwork(market, Mining.model_validate(terms), hashrate, stream(1, "test", "blocks"))


@pytest.mark.parametrize(
    ("price", "expected"),
    # 86400e15 / (141.67e12 x 2^32) = 0.14199 blocks a PH/s and day; x 3.125 x 1.01 x price
    [(60_000, 26.89), (62_910, 28.19), (70_000, 31.37), (73_100, 32.76), (90_000, 40.34)],
)
def test_hashprice(price: float, expected: float) -> None:
    assert hashprice(price, DIFFICULTY) == pytest.approx(expected, abs=0.005)


def test_hashprice_shares_out_what_a_day_of_blocks_brings() -> None:
    # 144 blocks a day for the hashrate that the difficulty stands for: 450 new coins, and fees
    revenue = hashprice(73_100, DIFFICULTY) * FULL * 1000
    assert revenue == pytest.approx(450 * 1.01 * 73_100)


def test_the_difficulty_stands_for_a_hashrate() -> None:
    assert pytest.approx(1014, abs=0.5) == FULL


@pytest.mark.parametrize(
    ("efficiency", "power", "expected"),
    [(29.5, 0.055, 38.94), (21.5, 0.055, 28.38), (18.0, 0.055, 23.76), (16.0, 0.07, 26.88), (9.5, 0.04, 9.12)],
)
def test_break_even(efficiency: float, power: float, expected: float) -> None:
    assert break_even(efficiency, power) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("actual", "factor"),
    [(1_209_600, 1.0), (1_344_000, 0.9), (604_800, 2.0), (100_000, 4.0), (4_838_400, 0.25), (9e6, 0.25)],
)
def test_the_difficulty_follows_the_time_that_2016_blocks_took(actual: float, factor: float) -> None:
    assert retargeted(DIFFICULTY, actual) == pytest.approx(DIFFICULTY * factor)


def test_blocks_are_a_poisson_process_of_the_hashrate() -> None:
    market = empty(13)  # the first retarget comes after two weeks
    blocks = network(market)
    market.run_for("13d")
    assert blocks.blocks == pytest.approx(13 * 144, abs=4 * np.sqrt(13 * 144))
    assert blocks.coins_per_ehs * FULL == pytest.approx(blocks.blocks * 3.125 * 1.01)


def test_work_is_kept_when_the_hashrate_changes() -> None:
    market = empty(4)
    changing = network(market)
    work = np.cumsum(stream(1, "test", "blocks").exponential(size=1000))
    done = 0.0
    for part in (0.5, 0.0, 1.7, 1.0):
        changing.hashrate = part * FULL
        assert changing.pace == pytest.approx(part)
        market.run_for("1d")
        done += part * 144
        assert changing.blocks == np.searchsorted(work, done)


def test_a_slow_epoch_ends_in_a_lower_difficulty() -> None:
    market = empty(3)
    slow = network(market, hashrate=0.8 * FULL, epoch_blocks=EPOCH - 100)
    assert slow.expected_change == pytest.approx(-0.2)
    before = slow.hashprice(70_000)
    while slow.difficulty == DIFFICULTY:
        expected = slow.expected_change
        market.run_for("1h")
    assert slow.blocks >= 100
    assert slow.difficulty / DIFFICULTY - 1 == pytest.approx(expected, abs=2e-3)
    assert slow.hashprice(70_000) == pytest.approx(before * DIFFICULTY / slow.difficulty)
    assert slow.pace == pytest.approx(0.8 * DIFFICULTY / slow.difficulty)


def test_no_hashrate_finds_no_block() -> None:
    market = empty(1)
    dead = network(market, hashrate=0.0)
    market.run_for("1d")
    assert dead.blocks == 0
    assert dead.expected_change == -0.75
