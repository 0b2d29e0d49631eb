"""Named streams and the draws taken from them."""

import numpy as np

from abm.random import Block, Wakeups, stream


def test_the_same_name_starts_at_the_same_place_and_any_other_elsewhere() -> None:
    first = stream(1, "noise", "side").random(8)
    assert np.array_equal(first, stream(1, "noise", "side").random(8))
    others = [
        stream(2, "noise", "side"),
        stream(1, "value", "side"),
        stream(1, "noise", "size"),
        stream(1, "noises", "ide"),
    ]
    assert not any(np.isclose(first, other.random(8)).any() for other in others)


def test_a_block_gives_the_same_draws_however_many_are_taken_at_once() -> None:
    at_once = Block(stream(1, "a", "b").standard_normal, 16).take(100)
    block = Block(stream(1, "a", "b").standard_normal, 16)
    piecewise = np.concatenate([block.take(n) for n in (0, 1, 15, 16, 17, 30, 21)])
    assert np.array_equal(at_once, piecewise)


def test_accounts_look_as_often_as_their_mean_says() -> None:
    wakeups = Wakeups(stream(1, "a", "look"), 1000, 50.0)
    looks = sum(len(wakeups.due(float(now))) for now in range(1000))
    # 1000 accounts look every 50 s, after which up to a second passes until they are asked
    assert 0.95 < looks / (1000 * 1000 / 50.5) < 1.05
    assert len(wakeups.due(999.0)) == 0
