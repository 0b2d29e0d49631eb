"""What a sweep is asked to do: its points, its seeds, and one line for what is wrong."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from abm.scenario import ScenarioError, load
from experiments.store import Outcome
from experiments.sweep_design import designed
from experiments.sweep_plan import Plan, read_plan
from experiments.sweep_spec import Axis, Design, Spec

ACCOUNTS, VOLUME = "traders.noise.accounts", "traders.noise.volume_per_day"
SPEC: dict[str, Any] = {
    "scenario": "first-hour",
    "set": {"clock.end": "2026-02-05T00:01Z"},
    "vary": {ACCOUNTS: [50, 100]},
    "measures": ["drawdown"],
}


def plan(own: tuple[str, ...] = (), **changes: Any) -> Plan:
    return Plan.of("small", Spec.model_validate(SPEC | changes), own=own)


def axes(**said: Any) -> dict[str, Axis]:
    return dict(Spec.model_validate(SPEC | {"vary": said}).vary)


def test_a_grid_is_each_with_each_the_last_axis_fastest() -> None:
    made = plan(vary={ACCOUNTS: [50, 100], VOLUME: {"from": 1e3, "to": 1e5, "points": 3, "log": True}}, replications=2)
    assert [tuple(point.values()) for point in made.design.points] == [
        (accounts, volume) for accounts in (50, 100) for volume in (1e3, 1e4, 1e5)
    ]
    assert [(run.point, run.replication, run.seed) for run in made.runs[:3]] == [(0, 0, 1), (0, 1, 2), (1, 0, 1)]
    third = made.runs[4].scenario
    assert third is not None
    wanted = load("first-hour", seed=1, **{"clock.end": "2026-02-05T00:01Z", ACCOUNTS: 50, VOLUME: 1e5})
    assert third.hash == wanted.hash


def test_ranges_of_whole_numbers_stay_whole_and_factors_multiply_what_stands_there() -> None:
    made = plan(
        vary={
            ACCOUNTS: {"from": 50, "to": 100, "points": 3},
            "depth": {
                "keys": ["traders.market_makers.books.btc-spot.depth_usd", "traders.retail.accounts"],
                "factor": True,
                "values": [0.5, 2],
            },
        }
    )
    assert [point[ACCOUNTS] for point in made.design.points[::2]] == [50, 75, 100]
    halved, doubled = (made.runs[k].scenario for k in (0, 1))
    assert halved is not None and doubled is not None
    assert halved.traders["market_makers"].books["btc-spot"].depth_usd == 4e6
    assert [each.traders["retail"].accounts for each in (halved, doubled)] == [500, 2000]


def test_values_may_be_anything_and_variants_change_several_keys() -> None:
    made = plan(
        vary={
            "traders.etf": [None],
            "scenario": ["first-hour", "spot"],
            "policy": {
                "variants": {"none": {}, "few": {ACCOUNTS: 20, "traders.retail": None}},
            },
        }
    )
    runs = [run.scenario for run in made.runs]
    assert [scenario is not None and scenario.name for scenario in runs] == ["first-hour"] * 2 + ["spot"] * 2
    few = runs[1]
    assert few is not None and "etf" not in few.traders and "retail" not in few.traders
    assert few.traders["noise"].accounts == 20
    table = made.table([Outcome(run.hash, 1, {"btc-spot.drawdown": -0.1}, 1.0) for run in runs if run is not None])
    assert table["policy"].tolist() == ["none", "few"] * 2
    assert table["traders.etf"].isna().all()
    assert (table["drawdown"] == -0.1).all()


def test_what_cannot_be_one_kind_of_column_is_json() -> None:
    rate = "traders.noise.volume_per_day"
    made = plan(vary={"recording.profile_bps": [[], [5, 10]], rate: [1000, 2000.5]})
    table = made.table([Outcome(run.hash, 1, {}, 1.0) for run in made.scenarios])
    assert table["recording.profile_bps"].tolist() == ["[]", "[]", "[5, 10]", "[5, 10]"]
    assert table[rate].tolist() == [1000.0, 2000.5] * 2


def test_seeds_are_common_to_points_or_follow_from_their_values() -> None:
    common = plan(replications=2, seed=7)
    assert [run.seed for run in common.runs] == [7, 8, 7, 8]
    alone = plan(replications=2, seeds="independent")
    more = plan(replications=3, seeds="independent", vary={ACCOUNTS: [20, 50, 100]})
    seeds = {(run.point, run.replication): run.seed for run in more.runs}
    assert len(set(seeds.values())) == 9
    assert [run.seed for run in alone.runs] == [seeds[1, 0], seeds[1, 1], seeds[2, 0], seeds[2, 1]]
    assert all(0 <= seed < 2**63 for seed in seeds.values())


def test_lists_go_together_and_must_be_as_long_as_each_other() -> None:
    listed = designed(Design(kind="list"), axes(a=[1, 2], b={"from": 0, "to": 1, "points": 2}), frozenset())
    assert listed.points == [{"a": 1, "b": 0.0}, {"a": 2, "b": 1.0}]
    with pytest.raises(ScenarioError, match=r"^vary.b has 3 values, and a 2; in a list they go together"):
        designed(Design(kind="list"), axes(a=[1, 2], b=[1, 2, 3]), frozenset())


@pytest.mark.parametrize("kind", ["latin", "sobol"])
def test_what_is_drawn_fills_each_axis_evenly_and_is_the_same_again(kind: str) -> None:
    said = axes(a={"from": 10, "to": 1000, "log": True}, b=["x", "y", None, True], c={"from": 1, "to": 8})
    drawn = designed(Design(kind=kind, samples=64), said, frozenset("c"))
    assert drawn.points == designed(Design(kind=kind, samples=64), said, frozenset("c")).points
    assert drawn.points != designed(Design(kind=kind, samples=64, seed=2), said, frozenset("c")).points
    shares = np.array([math.log10(point["a"]) / 2 - 0.5 for point in drawn.points])
    assert (np.histogram(shares, bins=64, range=(0, 1))[0] == 1).all()
    for value in ("x", "y", None, True):
        assert sum(point["b"] is value for point in drawn.points) == 16
    assert {point["c"] for point in drawn.points} == set(range(1, 9))
    assert drawn.about == {"kind": kind, "samples": 64, "seed": 1, "points": 64}


def test_salib_can_take_its_samples_from_the_table_again() -> None:
    """Of Y = 2 a + log b: total effects by their variances, and elementary effects that are the slopes."""
    from SALib.analyze import morris, sobol

    said = axes(a={"from": -1, "to": 1}, b={"from": 1, "to": math.e**4, "log": True})
    saltelli = designed(Design(kind="saltelli", samples=512), said, frozenset())
    assert saltelli.about["problem"] == {"num_vars": 2, "names": ["a", "b"], "bounds": [[-1, 1], [1, math.e**4]]}
    assert len(saltelli.points) == 512 * 6 == saltelli.about["points"]
    y = np.array([2 * point["a"] + math.log(point["b"]) for point in saltelli.points])
    indices = sobol.analyze(saltelli.about["problem"], y, seed=1)
    assert indices["S1"] == pytest.approx([0.5, 0.5], abs=0.03)
    trajectories = designed(Design(kind="morris", samples=10), said, frozenset())
    assert len(trajectories.points) == 10 * 3
    x = np.array([list(point.values()) for point in trajectories.points])
    y = 2 * x[:, 0] + np.log(x[:, 1])
    effects = morris.analyze(trajectories.about["problem"], x, y, num_levels=4, seed=1)
    assert np.asarray(effects["mu_star"]) == pytest.approx([4.0, 4.0])
    assert np.asarray(effects["sigma"]) == pytest.approx([0.0, 0.0], abs=1e-9)


def test_a_point_that_cannot_be_built_is_a_failed_run_of_which_the_others_know_nothing() -> None:
    start = "clock.start"
    made = plan(
        vary={
            "clock.end": ["2026-02-05T00:01Z", "2026-02-05T01:00Z"],
            start: ["2026-02-05T00:00Z", "2026-02-05T00:30Z"],
        }
    )
    assert [run.failed is not None for run in made.runs] == [False, True, False, False]
    table = made.table([Outcome(run.hash, 1, {"btc-spot.drawdown": -0.1}, 1.0) for run in made.scenarios])
    bad = table.iloc[1]
    assert (bad["stage"], bad["scenario_hash"], bad["seconds"]) == ("build", "", 0.0)
    assert bad["error"].startswith("first-hour: ") and "Traceback" in bad["traceback"]
    assert table["drawdown"].isna().tolist() == [False, True, False, False]


def test_measures_of_ones_own_are_columns_too_and_may_not_take_anothers_name() -> None:
    made = plan(own=("tests.unit.measures:close",))
    assert made.measure == "analysis.measures:whole_run+tests.unit.measures:close"
    said = {"btc-spot.drawdown": -0.1, "btc-spot.low": 7.0, "liquidated_usd": 0.0, "close": 1.0}
    table = made.table([Outcome(run.hash, 1, said, 1.0) for run in made.scenarios])
    assert list(table.columns) == [
        *("point", "replication", "seed", "scenario_hash", ACCOUNTS, "drawdown", "close"),
        *("seconds", "stage", "error", "traceback"),
    ]
    with pytest.raises(ScenarioError, match=r"^measure tests.unit.measures:close: 'seed' is another column's name"):
        made.table([Outcome(run.hash, 1, {"seed": 1.0}, 1.0) for run in made.scenarios])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"replication": 3}, "small.yaml: replication is not a key. Did you mean replications?"),
        ({"vary": {}}, "small.yaml: vary: is empty; name what is varied"),
        ({"vary": {ACCOUNTS: []}}, f"small.yaml: vary.{ACCOUNTS}: is empty; give at least one value"),
        ({"vary": {ACCOUNTS: [1, 1]}}, f"small.yaml: vary.{ACCOUNTS}: 1 stands twice; give it once"),
        (
            {"vary": {ACCOUNTS: {"form": 1, "to": 2, "points": 2}}},
            f"small.yaml: vary.{ACCOUNTS}.form is not a key. Did you mean from?",
        ),
        ({"vary": {ACCOUNTS: {"from": 1, "points": 2}}}, f"small.yaml: vary.{ACCOUNTS}: a range has both from and to"),
        ({"vary": {ACCOUNTS: {"from": 2, "to": 1}}}, f"small.yaml: vary.{ACCOUNTS}: from must be less than to"),
        ({"vary": {ACCOUNTS: {"from": 1, "to": 9}}}, f"small.yaml: vary.{ACCOUNTS}.points is missing, such as 5: how many"),
        (
            {"vary": {ACCOUNTS: {"from": 1, "to": 3, "points": 5}}},
            f"small.yaml: vary.{ACCOUNTS}.points: there are not 5 whole numbers there",
        ),
        ({"vary": {"a": {"keys": [ACCOUNTS], "values": [1]}, ACCOUNTS: [2]}}, f"small.yaml: vary: {ACCOUNTS} is varied twice"),
        ({"vary": {"traders.noise.acounts": [1]}}, "small.yaml: first-hour: traders.noise.acounts is not a key. Did you mean"),
        ({"vary": {ACCOUNTS: [50, -1]}}, f"small.yaml: vary.{ACCOUNTS}: -1 fits no point: first-hour: {ACCOUNTS} = -1 should"),
        ({"vary": {"scenario": ["first-hor"]}}, "small.yaml: first-hor: no such scenario. Did you mean first-hour?"),
        ({"scenario": ""}, "small.yaml: scenario is missing, such as first-hour"),
        ({"set": {"seed": 3}}, "small.yaml: seed: seeds come from replications"),
        ({"design": "gird"}, "small.yaml: design.kind = 'gird' should be 'grid', 'list'"),
        ({"design": "latin"}, "small.yaml: design: samples is missing, such as 128, for latin"),
        ({"design": {"kind": "sobol", "samples": 100}}, "small.yaml: design: samples: 100 is no power of 2; write 128"),
        ({"design": {"kind": "saltelli", "samples": 8}}, f"small.yaml: vary.{ACCOUNTS} has values, and saltelli and morris go"),
        ({"design": {"kind": "grid", "levels": 4}}, "small.yaml: design: levels is for morris alone; leave it out"),
        (
            {"design": {"kind": "morris", "samples": 2}, "vary": {ACCOUNTS: {"from": 50, "to": 52}}},
            f"small.yaml: vary.{ACCOUNTS} has fewer than 4 whole numbers",
        ),
        ({"measures": []}, "small.yaml: measures is missing, such as [drawdown] (abm sweep --list-measures)"),
        ({"measures": ["drawdwn"]}, "small.yaml: measures: 'drawdwn' is none. Did you mean drawdown?"),
        ({"measures": ["eth-perp.drawdown"]}, "small.yaml: measures: 'eth-perp.drawdown': 'eth-perp' is not traded here"),
        ({"measures": ["tests.unit.measures:close"]}, "small.yaml: measures: 'tests.unit.measures:close' is none"),
        ({"instrument": "btc"}, "small.yaml: instrument: 'btc' is not traded here. Did you mean btc-spot?"),
        ({"keep": ["bar"]}, "small.yaml: keep: 'bar' is no table. Did you mean bars?; there are bars, flows"),
        ({"limits": {"second": 3}}, "small.yaml: limits.second is not a key. Did you mean seconds?"),
        ({"limits": {"seconds": 0}}, "small.yaml: limits.seconds = 0 should be greater than 0"),
        ({"vary": {"error": {"variants": {"x": {}}}}}, "small.yaml: vary.error: the table has a column of this name"),
        (
            {"vary": {"a": {"variants": {"x": {}, "y": {"traders.retail.acounts": 2}}}}},
            "small.yaml: vary.a: 'y' fits no point: first-hour: traders.retail.acounts is not a key. Did you mean",
        ),
        (
            {"vary": {"a": {"factor": True, "values": [2], "keys": ["traders.noise.kind"]}}},
            "small.yaml: vary: traders.noise.kind is 'noise' and no number",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(SPEC | changes))
    with pytest.raises(ScenarioError) as error:
        read_plan(str(file))
    assert str(error.value).startswith(line) and "\n" not in str(error.value)


def test_a_sweep_that_is_not_there_is_one_line() -> None:
    with pytest.raises(
        ScenarioError, match=r"^makers-and-flw: no such sweep. Did you mean makers-and-flow\?; give a name in"
    ):
        read_plan("makers-and-flw")


def test_the_sweeps_that_are_kept_fit_their_scenarios() -> None:
    from abm.scenario import configs

    for path in (configs() / "sweeps").glob("*.yaml"):
        assert read_plan(path.stem).scenarios
