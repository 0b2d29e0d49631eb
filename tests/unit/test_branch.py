"""A run that branches off: the same until then, to the last event, and another from there on."""

from typing import Any

import numpy as np
import pytest

import abm
from abm import Market
from abm.clock import Clock
from abm.random import Block, Fork, Streams, Wakeups, spliced, stream
from abm.scenario import ScenarioError, load
from abm.world.fundamental import Fundamental, Jumps, Pace, fundamental_path
from abm.world.news import News, NewsPaths

AT = "2026-02-05T00:02Z"
CLOCK = Clock.model_validate({"start": "2026-01-05T00:00Z", "end": "2026-01-06T00:00Z", "step": "10s"})
FORK = Fork(3000, 7)


def market(seed: int | None = None, at: str = AT, **changes: Any) -> Market:
    branch = {} if seed is None else {"branch": {"at": at, "seed": seed}}
    return Market(load("first-hour", traders={"insiders": {"kind": "informed", "ahead": "5min"}}, **branch, **changes))


def log(played: Market) -> str:
    return str(played.result().summary["event_log_hash"])


def test_until_then_a_run_is_the_one_without_a_branch_and_another_from_there_on() -> None:
    plain, first, again, other = (market(seed) for seed in (None, 1, 1, 2))
    for played in (plain, first, again, other):
        played.run_for("2min")
    assert len({log(played) for played in (plain, first, again, other)}) == 1
    for played in (plain, first, again, other):
        played.run_for("10s")
    assert log(first) == log(again)
    assert len({log(played) for played in (plain, first, other)}) == 3


@pytest.mark.parametrize(("name", "day"), [("contagion", "2026-02-04"), ("calm", "2026-01-05")])
def test_so_it_is_with_all_who_trade_in_larger_scenarios(name: str, day: str) -> None:
    branches: list[dict[str, Any]] = [{}, *({"branch": {"at": f"{day}T00:05Z", "seed": k}} for k in (1, 2))]
    played = [Market(load(name, **branch)) for branch in branches]
    for span, different in (("5min", 1), ("1min", 3)):
        for each in played:
            each.run_for(span)
        assert len({log(each) for each in played}) == different


def test_it_may_branch_off_at_the_start() -> None:
    plain, first, other = (market(seed, "2026-02-05T00:00Z") for seed in (None, 1, 2))
    cash = [played.cash.copy() for played in (plain, first, other)]
    assert all(np.array_equal(cash[0], held) for held in cash)
    for played in (plain, first, other):
        played.run_for("10s")
    assert len({log(played) for played in (plain, first, other)}) == 3


def test_a_later_end_changes_nothing_before_it() -> None:
    short, long = market(1), market(1, **{"clock.end": "2026-02-07T00:00Z"})
    for played in (short, long):
        played.run_for("3min")
    assert log(short) == log(long)


def test_one_trader_more_leaves_the_draws_of_the_others_as_they_are() -> None:
    draws = []
    for names in (("noise",), ("noise", "retail"), ("retail", "noise")):
        streams = Streams(1)
        mine = {name: streams.of(name, "side") for name in names}["noise"]
        streams.branch(5, 0.0)
        draws.append(mine.random(4))
        assert np.array_equal(streams.of("late", "side").random(4), stream(5, "late", "side", "branch").random(4))
    assert all(np.array_equal(draws[0], other) for other in draws)


def test_what_was_drawn_ahead_is_drawn_anew_and_what_is_due_stays() -> None:
    plain, branched = Streams(1), Streams(1)
    blocks, looks = [], []
    for streams in (plain, branched):
        blocks.append(streams.keep(Block(streams.of("a", "b").standard_normal, 16)))
        looks.append(streams.keep(Wakeups(streams.of("a", "look"), 1000, 50.0)))
        blocks[-1].take(3)
    branched.branch(2, 20.0)
    assert not np.isin(blocks[1].take(40), blocks[0].take(40)).any()
    due = [set(wakeups.due(20.0).tolist()) for wakeups in looks]
    assert due[0] == due[1]
    later = [set(wakeups.due(30.0).tolist()) for wakeups in looks]
    assert later[0] != later[1]
    assert len(later[1]) == pytest.approx(1000 * (1 - np.exp(-10 / 50)), abs=4 * np.sqrt(1000 * 0.18 * 0.82))


def test_draws_of_all_steps_are_spliced() -> None:
    def draw(of: Any) -> Any:
        return of("x").random(10)

    plain, branched = spliced(draw, 1, "a"), spliced(draw, 1, "a", Fork(4, 2))
    assert np.array_equal(plain[:4], branched[:4])
    assert np.array_equal(branched[4:], stream(2, "a", "x", "branch").random(10)[4:])


@pytest.mark.parametrize(
    "config",
    [
        Fundamental(volatility=0.4),
        Fundamental(volatility=0.0, jumps=Jumps(per_day=1000.0, least=0.004, tail=3.0)),
        Fundamental(
            volatility=0.1, jumps=Jumps(per_day=500.0, least=0.004, tail=3.0), pace=Pace(deviation=1.0, half_life=3600)
        ),
    ],
)
def test_news_is_the_same_until_then_and_other_news_after(config: Fundamental) -> None:
    paths = []
    for fork in (None, FORK, FORK, Fork(3000, 8)):
        pace = config.pace.path(CLOCK, 1, "coin", fork) if config.pace else 1.0
        paths.append(fundamental_path(config, 100.0, CLOCK, 1, "coin", pace=pace, fork=fork))
    plain, first, again, other = paths
    assert np.array_equal(first, again)
    for path in (first, other):
        assert np.array_equal(plain[:3001], path[:3001])  # value 3000 is that before the step
        assert (np.diff(plain[3000:]) != np.diff(path[3000:])).mean() > 0.05
    assert not np.allclose(first[3100:], other[3100:])


def test_the_pace_goes_on_from_where_it_was() -> None:
    pace = Pace(deviation=0.5, half_life=3600)
    plain, branched = (np.log(pace.path(CLOCK, 1, "coin", fork)) for fork in (None, FORK))
    assert np.array_equal(plain[:3000], branched[:3000])
    assert abs(branched[3000] - branched[2999]) < 6 * 0.5 * np.sqrt(1 - 0.5 ** (2 * 10 / 3600))
    assert np.corrcoef(np.diff(plain[3000:]), np.diff(branched[3000:]))[0, 1] == pytest.approx(0.0, abs=0.06)


def test_events_of_the_calendar_stay_what_they_are() -> None:
    """They are given, whenever they come; factors move otherwise."""
    event = {"at": "2026-01-05T20:00Z", "kind": "other", "what": "", "moves": {"shares": -0.1}}
    alone = News.model_validate({"factors": {"shares": 0.0}, "calendar": [event]})
    moving = News.model_validate({"factors": {"shares": 0.2}, "calendar": [event]})
    quiet = [NewsPaths(alone, CLOCK, 1, fork).of("coin", {"shares": 1.0}) for fork in (None, FORK)]
    assert np.array_equal(*quiet) and quiet[1][-1] == -0.1
    plain, branched = (NewsPaths(moving, CLOCK, 1, fork).of("coin", {"shares": 1.0}) for fork in (None, FORK))
    assert np.array_equal(plain[:3001], branched[:3001])
    assert not np.array_equal(plain[3001:], branched[3001:])


def test_a_branch_is_part_of_what_identifies_a_run() -> None:
    hashes = {
        load("first-hour", **change).hash for change in ({}, *({"branch": {"at": AT, "seed": k}} for k in (1, 2)))
    }
    assert len(hashes) == 3


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("2026-02-05T02:00Z", "branch.at: 2026-02-05T02:00:00Z is not within the run"),
        ("2026-02-05T01:00Z", "branch.at must be earlier than clock.end"),
        ("2026-02-05T00:00:00.5Z", "branch.at: 2026-02-05T00:00:00Z is not the beginning of a step"),
    ],
)
def test_it_branches_off_within_the_run(at: str, words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        abm.load("first-hour", branch={"at": at, "seed": 1})
