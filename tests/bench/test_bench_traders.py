"""What the bench counts must have happened, the stopwatches must change nothing, and both markets must be the same. Nothing here is timed."""

import ast
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import abm
from abm.scenario import load_with
from experiments.bench import app, crowd, memory, whole_runs
from experiments.bench.crowd import Cost, Played
from experiments.bench.peers import CHECKOUT, PEERS, Peer, PeerFailed, PeerPass
from experiments.bench.peers import play as play_peer
from experiments.bench.report import Report

SMALL = {
    "clock": {"end": "2026-02-05T00:02Z"},
    "traders": {"retail_leverage": {"accounts": 500}, "short_sellers": {"accounts": 100}, "retail": {"accounts": 500}},
}
PAMS = next(peer for peer in PEERS if peer.package == "pams")


def not_installed(peer: Peer, tape: object, repeat: int) -> PeerPass:
    raise PeerFailed("not installed (make bench-peers)")


def run(**changes: Any) -> Played:
    """A run that came to nothing in particular."""
    cost = Cost("noise", "noise", 10, 1.0, 1_000)
    about = {"instruments": 1, "steps": 3_600, "step": 1.0, "set_up": 2.0, "seconds": 1.0, "messages": 1_000}
    return Played(**about | {"peak": 10**9, "event_log": "a", "faults": [], "costs": [cost]} | changes)


def test_the_crowd_is_a_million_accounts_of_a_dozen_kinds_and_trades_no_more_than_in_one_book() -> None:
    scenario, book = abm.load("crowd"), abm.load("spot")
    assert sum(config.accounts for config in scenario.traders.values()) >= 1_000_000
    assert len({config.kind for config in scenario.traders.values()}) >= 12
    assert (scenario.clock.step, scenario.clock.steps) == (1.0, 3_600)
    assert set(scenario.instruments) == {"btc-spot", "btc-perp"}
    for name, of in (("noise", book), ("noise_perp", scenario)):
        assert scenario.traders[name].volume_per_day == of.traders[name].volume_per_day
    demo = load_with("crowd", [whole_runs.INTENSITIES["demo"]])
    assert demo.traders["noise"].orders_per_second == book.traders["noise"].orders_per_second


def test_stopwatches_change_nothing_and_what_they_show_adds_up() -> None:
    played = crowd.play_alone(SMALL)
    plain = abm.run(load_with("crowd", [SMALL])).summary
    assert played.event_log == plain["event_log_hash"]
    assert played.steps == plain["steps"] == 120
    assert played.messages + played.steps == plain["messages"]  # with one message of the clock in each step
    assert plain["trades"] > 0
    assert played.faults == []
    assert sum(cost.seconds for cost in played.costs) == pytest.approx(played.seconds)
    assert all(cost.seconds >= 0 for cost in played.costs)
    assert {cost.who for cost in played.costs if cost.kind} == set(plain["traders"])
    assert [cost.who for cost in played.costs if not cost.kind] == ["gateway", "match", "recorder", "rest"]
    assert next(cost for cost in played.costs if cost.who == "market_makers").messages > 0


def test_peak_memory_is_what_was_had_at_one_time_by_this_process_alone() -> None:
    before = memory.peak()
    if before < 0:
        pytest.skip("this system does not tell")
    block = np.ones(before // 8)
    del block
    assert memory.peak() > before
    program = "from experiments.bench.memory import peak; print(peak())"
    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, check=True, capture_output=True, text=True)
    assert 0 < int(done.stdout) < before


def test_json_holds_every_figure_and_what_each_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"traders": {"noise": {"orders_per_second": 3}, "noise_perp": {"orders_per_second": 3}}}
    small = {"demo": SMALL | {"traders": SMALL["traders"] | few["traders"]}, "venue": SMALL}
    monkeypatch.setattr(whole_runs, "INTENSITIES", small)
    monkeypatch.setattr(whole_runs, "PACES", {"one a step": (1_000, 20), "all each step": (1.0, 3)})
    monkeypatch.setattr(whole_runs, "play_alone", crowd.play)
    monkeypatch.setattr(whole_runs, "play_peer", not_installed)
    result = CliRunner().invoke(app, ["traders", "--repeat", "1", "--hours", "0.1", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    figures = {(figure["what"], figure["tape"]): figure for figure in report["figures"]}
    assert all(figure["value"] > 0 for figure in figures.values())
    for what in ("crowd, whole step", "crowd, 48 h", "crowd, a step"):
        assert {(what, "demo"), (what, "venue")} <= set(figures)
    assert figures["fcn, 1,000 accounts", "all each step"]["ratio"] is None
    assert "pams 0.3.0 left out: not installed (make bench-peers)" in report["notes"]
    sent = {(cost["intensity"], cost["who"]): cost["messages"] for cost in report["costs"]}
    assert sent["venue", "noise"] > 10 * sent["demo", "noise"] > 0
    for name in small:
        us = sum(cost["us"] for cost in report["costs"] if cost["intensity"] == name)
        assert us == pytest.approx(figures["crowd, a step", name]["value"])


@pytest.mark.parametrize(
    ("runs", "wrong"),
    [
        ([run(faults=["cash of btc-spot: 3"])] * 2, "the audit failed: cash of btc-spot: 3"),
        ([run(), run(event_log="b")], "two runs with one seed have different event logs"),
    ],
)
def test_a_failed_audit_and_runs_that_differ_fail_the_bench(
    monkeypatch: pytest.MonkeyPatch, runs: list[Played], wrong: str
) -> None:
    left = iter(runs)
    monkeypatch.setattr(whole_runs, "INTENSITIES", {"venue": {}})
    monkeypatch.setattr(whole_runs, "play_alone", lambda _: next(left))
    result = CliRunner().invoke(app, ["traders", "--repeat", "2"])
    assert result.exit_code == 1
    assert result.stderr == f"the bench fails: the crowd, venue: {wrong}\n"


@pytest.mark.parametrize(
    ("seconds", "messages", "reached"), [(0.5, 1_000, True), (5.0, 6_000_000, True), (5.0, 1_000, False)]
)
def test_messages_a_second_or_the_time_of_48_hours_must_be_reached(
    seconds: float, messages: int, reached: bool
) -> None:
    report = Report("")
    whole_runs._tell(report, "venue", run(seconds=seconds, messages=messages))
    figures = {figure.what: figure for figure in report.figures}
    assert figures["crowd, whole step"].reached is figures["crowd, 48 h"].reached is reached
    assert figures["crowd, 48 h"].value == pytest.approx(2.0 + 48 * seconds)
    assert figures["crowd, peak memory"].reached is True
    whole_runs._tell(report, "venue", run(peak=2 * 10**9))
    assert report.figures[-1].reached is False


def test_the_ratio_is_to_the_orders_a_second_of_pams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_runs, "PACES", {"all each step": (1.0, 3)})
    monkeypatch.setattr(whole_runs, "play_peer", lambda *_: PeerPass([1.0, 2.0, 9.0], 4, {}))
    report = Report("")
    whole_runs._beside_pams(report, 1)
    ours, theirs = report.figures
    assert (theirs.what, theirs.value) == ("pams 0.3.0", 2.0)
    assert ours.ratio == pytest.approx(ours.value / 2.0)
    assert ours.reached is (ours.ratio >= 50)


# ------------------------------------------------------------------ the FCN market


def settings_of_pams() -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Market and agents of the program that PAMS runs; it cannot be imported here."""
    tree = ast.parse(PAMS.program.read_text())
    settings = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "SETTINGS"
    )
    assert isinstance(settings, ast.Dict)
    parts = {key.value: value for key, value in zip(settings.keys, settings.values, strict=True)}
    return ast.literal_eval(parts["Market"]), ast.literal_eval(parts["FCNAgents"])


def test_instrument_agents_and_parameters_are_those_of_pams() -> None:
    market, agents = settings_of_pams()
    scenario = whole_runs.fcn_market(1.0, 10, seed=1)
    instrument, ours = scenario.instruments["market"], scenario.traders["fcn"].model_dump()
    assert (instrument.tick, instrument.reference_price) == (market["tickSize"], market["marketPrice"])
    assert (ours["accounts"], ours["coins"], ours["cash"]) == tuple(
        agents[key] for key in ("numAgents", "assetVolume", "cashAmount")
    )
    for name in ("fundamental", "chart", "noise"):
        assert agents[f"{name}Weight"] == {"expon": [ours[name]]}
    assert list(ours["reversion"]) == agents["meanReversionTime"]["uniform"]
    assert list(ours["window"]) == agents["timeWindowSize"]
    assert list(ours["margin"]) == agents["orderMargin"]
    assert ours["noise_scale"] == agents["noiseScale"]


@pytest.mark.parametrize(("pace", "each_step"), [("one a step", 1), ("all each step", 1_000)])
def test_so_many_orders_are_sent_in_a_step(pace: str, each_step: int) -> None:
    every, _ = whole_runs.PACES[pace]
    market = abm.Market(whole_runs.fcn_market(every, 400 // each_step + 3, seed=1))
    sent = crowd.Stopwatch(market.populations[0], "orders")
    market.run_for(market.scenario.clock.steps)
    assert sent.messages == pytest.approx(each_step * market.steps_done, rel=0.15)
    assert market.result().summary["trades"] > 0


@pytest.mark.peers
def test_pams_runs_without_a_tape() -> None:
    done = play_peer(PAMS, None, 1)
    assert done.messages == whole_runs.PACES["one a step"][1]
    assert done.seconds[0] > 0
