"""Runs in processes of their own: what they tell, that they change nothing by it, what they may use, and that they end."""

import os
import pickle
import time

import numpy as np
import pytest

from abm.market import Market
from abm.record import LOST
from abm.scenario import load_with
from experiments.app.runs import Busy, Limits, Runs
from experiments.app.snapshot import COLUMNS, Grid, partner
from experiments.app.worker import Order


def test_who_watches_changes_nothing(watched, scenario):
    market = Market(scenario)
    market.run_for(market.scenario.clock.steps)
    assert market.result().summary["event_log_hash"] == watched[1].summary["event_log_hash"]


def test_the_last_snapshot_says_what_the_result_says(watched):
    (*_, last), result = watched
    assert last.over and last.passed and last.step == 360
    assert set(last.traded) == {"btc-spot", "btc-perp"}
    forced = result.liquidations[result.liquidations["what"].isin(LOST)]
    assert len(forced) > 20, "the scenario of this test liquidates somebody"
    usd = (forced["quantity"] * forced["mark"]).groupby(forced["closed"]).sum()
    perp = last.traded["btc-perp"]
    assert perp.accounts == (forced["what"] == "liquidated").sum()
    assert perp.longs.sum() == pytest.approx(usd.get("long", 0.0))
    assert perp.shorts.sum() == pytest.approx(usd.get("short", 0.0))
    taken = result.flows[result.flows["role"] == "taker"]
    for name, seen in last.traded.items():
        mine = taken[taken["instrument"] == name].groupby("reason")["notional"].sum()
        assert {reason: amounts.sum() for reason, amounts in seen.volume.items()} == pytest.approx(mine.to_dict())
        bars = result.bars[result.bars["instrument"] == name]
        assert seen.now == bars["mid"].iloc[-1]
        assert np.allclose(seen.bars["depth"], bars["bid_depth"])
        assert seen.bars["time"][-1] == 3 * 3600


def test_stages_set_in_when_the_rules_say(watched, scenario):
    (*_, last), result = watched
    start = result.bars["time"].iloc[0]
    table = result.stages(calm=f"{Grid.of(scenario).calm:g}s")
    expected = {
        row.stage: None if row.onset is None or row.onset != row.onset else (row.onset - start).total_seconds()
        for row in table.itertuples()
    }
    assert {stage["stage"]: stage["onset"] for stage in last.stages} == expected
    assert any(expected.values()), "some stage sets in"


def test_snapshots_are_whole_at_any_time(watched):
    snapshots, _ = watched
    middle = snapshots[len(snapshots) // 2]
    assert set(middle.traded) == {"btc-spot", "btc-perp"}  # what is looked at, and where its leverage is
    assert len(middle.traded["btc-spot"].price) == middle.step + 1
    low, high = middle.traded["btc-spot"].depth
    assert (np.diff(low[1]) >= 0).all() and low[1][-1] > 0 and (np.diff(high[1]) >= 0).all()
    # How often the map is read depends on what reading costs; at the end it is read in any case
    mark, falls, rises = snapshots[-1].traded["btc-perp"].map
    assert mark == pytest.approx(snapshots[-1].traded["btc-perp"].now, rel=0.02) and falls.sum() > 0 and rises.sum() > 0
    assert len(middle.traded["btc-perp"].map[1]) == len(falls)
    assert {node["node"] for node in middle.nodes} >= {"btc-spot", "leverage_btc", "crypto_makers"}
    assert sum(node["kind"] == "asset" for node in middle.nodes) == 2


def test_a_long_run_is_cut_into_few_columns():
    calm = load_with("calm", [])
    grid = Grid.of(calm)
    assert calm.clock.steps / grid.stride <= COLUMNS and grid.total / grid.bar / grid.thinned <= COLUMNS
    assert grid.calm == 86_400.0
    assert partner(load_with("markets", []), "eth-spot") == "eth-perp"
    assert partner(load_with("spot", []), "btc-spot") == "btc-spot"


# ------------------------------------------------------------------ processes


def until(what, seconds=60.0):
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return answer


@pytest.fixture
def runs():
    keepers = []

    def make(**limits):
        keepers.append(Runs(Limits(**limits)))
        return keepers[-1]

    yield make
    for keeper in keepers:
        keeper.close()


def test_a_run_obeys_and_ends(runs):
    keeper = runs()
    run = keeper.begin("first-hour", [{"clock": {"end": "2026-02-05T00:10Z"}}])
    first = until(lambda: run.look() and run.newest)
    assert first.step == 0 and not first.running
    run.tell(Order(steps=60))
    until(lambda: run.look() and run.newest.step == 60)
    assert not run.newest.running
    run.tell(Order(running=True, pace=60.0))
    until(lambda: run.look() and run.newest.running and run.newest.step > 60)
    run.tell(Order(running=False))
    until(lambda: run.look() and not run.newest.running)
    paused = run.newest.step
    assert paused < 600, "at a minute a second it is not over yet"
    run.tell(Order(running=True, pace=0.0))
    until(lambda: run.look() and run.newest.over)
    assert run.newest.passed and pickle.dumps(run.newest)
    until(lambda: not run.alive)  # nothing is left running
    run.tell(Order(running=True))
    assert not run.failed


def test_a_run_whose_page_is_closed_is_gone(runs):
    run = runs().begin("spot", [])
    until(lambda: run.look())
    run.tell(Order(running=True))
    process = run._process.pid
    run.close()
    assert not run.alive
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_run_ends_when_nobody_is_at_the_other_end(runs):
    run = runs().begin("spot", [])
    until(lambda: run.look())
    run.tell(Order(running=True))
    run._pipe.close()  # as when the server has died
    until(lambda: not run.alive)


def test_no_more_runs_at_once_than_there_may_be(runs):
    keeper = runs(runs=1)
    first = keeper.begin("first-hour", [])
    with pytest.raises(Busy, match="1 runs are going on here"):
        keeper.begin("first-hour", [])
    first.close()
    keeper.begin("first-hour", [])


def test_a_run_that_lasts_too_long_is_ended(runs):
    run = runs(seconds=0.5).begin("spot", [])
    until(lambda: run.look() and run.failed)
    assert "0.00833" in run.failed and "--minutes" in run.failed and not run.alive


@pytest.mark.skipif(not os.path.exists("/proc/self/limits"), reason="memory is bounded on Linux only")
def test_a_run_that_needs_too_much_memory_is_ended(runs):
    run = runs(memory=6e8).begin(
        "first-hour", [{"traders": {"retail": {"accounts": 1_000_000}}}, {"spare_accounts": 1_000_000}]
    )
    until(lambda: run.look() and run.failed)
    assert "0.6 GB" in run.failed and "--memory" in run.failed


def test_what_is_wrong_with_a_scenario_is_said(runs):
    run = runs().begin("first-hour", [{"traders": {"noise": {"accounts": -1}}}])
    until(lambda: run.look() and run.failed)
    assert "traders.noise.accounts" in run.failed and "\n" not in run.failed


def test_a_process_that_dies_is_noticed(runs):
    run = runs().begin("spot", [])
    until(lambda: run.look())
    os.kill(run._process.pid, 9)
    until(lambda: run.look() and run.failed)
    assert "has ended" in run.failed
