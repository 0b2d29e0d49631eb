"""`abm phase`: a known line found again, cells as they are, and one line where a map cannot be drawn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import isotonic_regression
from typer.testing import CliRunner

from abm.scenario import ScenarioError
from analysis.phase import Phase, isotonic, phase
from analysis.phase_figure import phase_figure
from analysis.sweep import Sweep
from experiments import cli

LEVERAGE, DEPTH = "traders.retail.leverage", "depth"
XS, YS = (1.0, 2.0, 3.0, 4.0), (10.0, 20.0, 30.0, 40.0, 50.0, 60.0)


def made(replications: int = 20, ys: Any = YS, log: bool = False, seed: int = 1, falls: bool = False) -> Sweep:
    """Runs whose loss is above 1 with the chance 1 / (1 + exp(-(y - c(x)) / 4)), c = 55 - 10 x: half of them at 45, 35, 25 and 15."""
    rng = np.random.default_rng(seed)
    rows = []
    for point, (x, y) in enumerate((x, y) for x in XS for y in ys):
        place = 10.0 * np.log10(y) if log else y
        chance = 1.0 / (1.0 + np.exp(-(place - (55.0 - 10.0 * x)) / 4.0))
        for replication in range(replications):
            hit = rng.random() < (1.0 - chance if falls else chance)
            rows.append((point, replication, 1 + replication, x, y, 1.5 + hit if hit else rng.random(), "a"))
    columns = ["point", "replication", "seed", LEVERAGE, DEPTH, "loss", "policy"]
    table = pd.DataFrame(rows, columns=columns).assign(seconds=1.0, stage="", error="", traceback="")
    vary = {LEVERAGE: list(XS), DEPTH: {"log": True} if log else list(ys)}
    manifest = {
        "name": "made",
        "design": {"kind": "grid"},
        "spec": {"vary": vary},
        "keys": dict.fromkeys((LEVERAGE, DEPTH, "policy"), ""),
        "measures": {"loss": {"unit": "1", "about": ""}},
    }
    return Sweep(table, manifest)


def drawn(sweep: Sweep, **more: Any) -> Phase:
    return phase(sweep, LEVERAGE, DEPTH, "loss", **{"threshold": 1.0, **more})


def test_a_cell_is_its_runs() -> None:
    sweep = made()
    found = drawn(sweep)
    assert len(found.cells) == 24
    mine = sweep.table[(sweep.table[LEVERAGE] == 2.0) & (sweep.table[DEPTH] == 30.0)]["loss"]
    cell = found.cells[(found.cells["x"] == 2.0) & (found.cells["y"] == 30.0)].iloc[0]
    assert cell["median"] == mine.median()
    assert (cell["low"], cell["high"]) == tuple(mine.quantile([0.05, 0.95]))
    assert (cell["runs"], cell["lost"], cell["share"]) == (20, 0, (mine > 1).mean())
    assert 0 < cell["share_low"] < cell["share"] < cell["share_high"] < 1
    assert found.unit == "1"


@pytest.mark.parametrize("falls", [False, True])
def test_a_known_line_is_found_again(falls: bool) -> None:
    line = drawn(made(replications=200, falls=falls)).line
    assert line is not None
    assert line["critical"].to_list() == pytest.approx([45, 35, 25, 15], abs=1.5)
    assert (line["low"] <= line["critical"]).all()
    assert (line["critical"] <= line["high"]).all()
    assert (line["high"] - line["low"] < 5).all()
    assert line[["between_low", "between_high"]].to_numpy().tolist() == [[40, 50], [30, 40], [20, 30], [10, 20]]


def test_shares_are_made_to_rise_as_by_a_plain_regression() -> None:
    rng = np.random.default_rng(3)
    weights = rng.integers(1, 9, size=(50, 7)).astype(float)
    sums = rng.binomial(weights.astype(int), 0.5).astype(float)
    plain = [isotonic_regression(a / b, weights=b).x for a, b in zip(sums, weights, strict=True)]
    np.testing.assert_allclose(isotonic(sums, weights), plain, rtol=1e-12)
    weights[0, 3] = sums[0, 3] = 0  # one that has none does not count
    some = np.arange(7) != 3
    left = isotonic(sums, weights)[0, some]
    np.testing.assert_allclose(left, isotonic(sums[:1, some], weights[:1, some])[0], rtol=1e-12)


def test_intervals_hold_the_line_as_often_as_they_say() -> None:
    """16 maps with 4 columns each: of 64 intervals of 90 % that miss, 15 or more have a chance below 1 in 1000."""
    missed = 0
    for seed in range(16):
        line = drawn(made(replications=30, seed=seed)).line
        assert line is not None
        missed += int(((line["low"] > (true := [45, 35, 25, 15])) | (line["high"] < true)).sum())
    assert missed < 15


def test_above_and_below_cross_at_one_line() -> None:
    sweep = made()
    one, other = drawn(sweep), drawn(sweep, below=True)
    assert one.line is not None
    assert other.line is not None
    pd.testing.assert_frame_equal(one.line, other.line)
    assert (one.cells["share"] + other.cells["share"]).to_list() == pytest.approx([1.0] * 24)


def test_a_log_key_is_crossed_on_its_logarithm() -> None:
    ys = [10.0**k for k in (0.5, 1.5, 2.5, 3.5, 4.5, 5.5)]
    line = drawn(made(replications=200, ys=ys, log=True)).line
    assert line is not None
    assert np.log10(line["critical"]).to_list() == pytest.approx([4.5, 3.5, 2.5, 1.5], abs=0.15)


def test_a_line_beyond_the_map_is_infinite() -> None:
    sweep = made(replications=5)
    sweep.table["loss"] = np.where(sweep.table[LEVERAGE] == 1.0, 0.0, 2.0)
    line = drawn(sweep).line
    assert line is not None
    assert line["critical"].to_list() == [np.inf, -np.inf, -np.inf, -np.inf]
    assert line["between_low"].to_list() == [60, -np.inf, -np.inf, -np.inf]
    phase_figure(drawn(sweep), "made")


def test_where_just_half_pass_the_line_is_in_the_middle_of_that() -> None:
    sweep = made(replications=2)
    half = sweep.table["replication"] == 0
    rank = sweep.table[DEPTH]
    sweep.table["loss"] = np.where(rank < 30, 0.0, np.where(rank > 40, 2.0, np.where(half, 2.0, 0.0)))
    line = drawn(sweep).line
    assert line is not None
    assert line["critical"].to_list() == [35] * 4


def test_lost_runs_are_left_out_and_counted() -> None:
    sweep = made()
    sweep.table.loc[0, ["loss", "error"]] = [np.nan, "boom"]
    sweep.table.loc[1, "loss"] = np.inf
    sweep.table.loc[20:39, "error"] = "boom"
    cells = drawn(sweep).cells
    assert cells.loc[0, ["runs", "lost"]].to_list() == [18, 2]
    assert cells.loc[1, ["runs", "lost"]].to_list() == [0, 20]
    assert np.isnan(cells.loc[1, "share"])
    assert drawn(sweep).line is not None
    phase_figure(drawn(sweep), "made")


def test_without_a_threshold_or_numbers_there_is_no_line() -> None:
    sweep = made()
    found = drawn(sweep, threshold=None)
    assert found.line is None
    assert "share" not in found.cells
    sweep.table["policy"] = np.where(sweep.table["point"] % 2, "collar", "none")
    mixed = phase(sweep, LEVERAGE, "policy", "loss", 1.0, where={DEPTH: "30.0"})
    assert mixed.line is None
    assert set(mixed.cells["y"]) <= {"collar", "none"}


def test_other_keys_have_one_value() -> None:
    sweep = made()
    sweep.table["policy"] = np.where(sweep.table["replication"] % 2, "collar", "none")
    with pytest.raises(ScenarioError, match=r"^policy was varied too; say which, such as --where policy=none$"):
        drawn(sweep)
    assert (drawn(sweep, where={"policy": "collar"}).cells["runs"] == 10).all()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"x": "depht"}, "x: 'depht' was not varied. Did you mean depth?"),
        ({"y": LEVERAGE}, f"y: is {LEVERAGE}, as x is; give another key"),
        ({"measure": "los"}, "measure: 'los' is not in this sweep. Did you mean loss?"),
        ({"where": {"colour": "red"}}, "where: 'colour' was not varied; there are traders.retail.leverage, depth, policy"),
        ({"where": {"policy": "b"}}, "where: policy is never 'b'; there are a"),
    ],
)  # fmt: skip
def test_what_does_not_do_is_one_line(change: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError) as error:
        phase(made(replications=1), **{"x": LEVERAGE, "y": DEPTH, "measure": "loss", **change})
    assert str(error.value) == line


def test_no_run_that_went_well_is_one_line() -> None:
    sweep = made(replications=1)
    sweep.table["error"] = "boom"
    with pytest.raises(ScenarioError, match=r"^measure: loss has no number in any of these 24 runs$"):
        drawn(sweep)


def abm(*arguments: str) -> tuple[int, str, str]:
    answer = CliRunner().invoke(cli.app, list(arguments))
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer.exit_code, answer.stdout, answer.stderr


def test_the_command_prints_writes_and_draws(tmp_path: Path) -> None:
    sweep = made()
    sweep.table.loc[0, "error"] = "boom"
    sweep.write(tmp_path / "made")
    asked = ("phase", str(tmp_path / "made"), "--x", LEVERAGE, "--y", DEPTH, "--measure", "loss")
    csv, figure = tmp_path / "p.csv", tmp_path / "p.png"
    code, out, err = abm(*asked, "--threshold", "1", "--csv", str(csv), "--figure", str(figure))
    assert (code, err) == (0, "")
    assert "1 of 480 runs failed or have no number, and are left out" in out
    assert "half the runs are above 100.00% at depth of" in out
    assert list(pd.read_csv(csv).columns[:3]) == [LEVERAGE, DEPTH, "median"]
    assert figure.stat().st_size > 10_000
    code, out, _ = abm(*asked, "--threshold", "9", "--json")
    told = json.loads(out)
    assert (code, len(told["cells"])) == (0, 24)
    assert [row["critical"] for row in told["line"]] == ["inf"] * 4
    assert "half the runs" not in abm(*asked)[1]
    assert abm(*asked, "--below") == (2, "", "below: needs --threshold, such as --threshold -0.2\n")
    assert abm(*asked, "--where", "policy") == (2, "", "where: 'policy' has no =; write KEY=VALUE\n")
