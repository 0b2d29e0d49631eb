"""`abm sensitivity`: indices of functions whose indices are known, what noise does to them, and one line where a design does not do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from SALib.sample import morris, sobol
from SALib.test_functions import Ishigami
from scipy.stats import qmc
from typer.testing import CliRunner

from abm.scenario import ScenarioError
from analysis.sensitivity import sensitivity
from analysis.sensitivity_figure import sensitivity_figure
from analysis.sweep import Sweep
from experiments import cli

Function = Callable[[Any], Any]


def problem(bounds: list[list[float]]) -> dict[str, Any]:
    return {"num_vars": len(bounds), "names": [f"x{k + 1}" for k in range(len(bounds))], "bounds": bounds}


ISHIGAMI = problem([[-np.pi, np.pi]] * 3)
CUBE = problem([[0.0, 1.0]] * 3)


def made(
    design: dict[str, Any], inputs: Any, function: Function, several: int = 1, noise: float = 0.0, common: bool = False
) -> Sweep:
    """A sweep whose runs are a function of the keys, and noise: of a point and a seed, or where common of a seed alone."""
    rng = np.random.default_rng(7)
    names, n = design["problem"]["names"], len(inputs)
    table = pd.DataFrame(np.repeat(inputs, several, axis=0), columns=names)
    table.insert(0, "point", np.repeat(np.arange(n), several))
    table.insert(1, "replication", np.tile(np.arange(several), n))
    table.insert(2, "seed", 1 + (table["replication"] if common else np.arange(n * several)))
    chance = np.tile(rng.normal(size=several), n) if common else rng.normal(size=n * several)
    table["y"] = np.repeat(function(inputs), several) + noise * chance
    table = table.assign(seconds=1.0, stage="", error="", traceback="")
    about = {"y": {"unit": "USD", "about": ""}}
    return Sweep(table, {"design": design | {"points": n}, "keys": dict.fromkeys(names, ""), "measures": about, "name": "made"})  # fmt: skip


def saltelli(function: Function, n: int = 1024, about: dict[str, Any] = ISHIGAMI, **more: Any) -> Sweep:
    second = more.pop("second_order", True)
    design = {"kind": "saltelli", "problem": about, "samples": n, "second_order": second}
    return made(design, sobol.sample(about, n, calc_second_order=second, seed=1), function, **more)


def trajectories(function: Function, n: int = 50, levels: int = 4, **more: Any) -> Sweep:
    design = {"kind": "morris", "problem": CUBE, "samples": n, "levels": levels}
    return made(design, morris.sample(CUBE, n, num_levels=levels, seed=1), function, **more)


def filled(function: Function, n: int = 60, **more: Any) -> Sweep:
    """Points that fill the cube; of the third key, drawn by factors, the logarithm to 10."""
    shares = qmc.LatinHypercube(3, rng=1).random(n)
    inputs = shares * [1.0, 1.0, 0.0] + 10.0 ** shares[:, 2:] * [0.0, 0.0, 1.0]
    sweep = made({"kind": "latin", "problem": CUBE, "samples": n}, inputs, function, **more)
    ranges = {key: {"from": 0.0, "to": 1.0} for key in ("x1", "x2")}
    sweep.manifest["spec"] = {"vary": ranges | {"x3": {"from": 1.0, "to": 10.0, "log": True}}}
    return sweep


def lines(x: Any) -> Any:
    """5 for the range of the first key, nothing for that of the second, and -3 for the third."""
    return 5.0 * x[:, 0] - 3.0 * np.log10(x[:, 2])


def inside(found: Any, known: Any, error: Any, most: float) -> None:
    """Whether known values lie within twice the half widths of 90 %, and these are small."""
    assert np.all(np.abs(np.asarray(found) - known) <= 2 * np.asarray(error) + 1e-9), (found, known, error)
    assert np.all(np.asarray(error) < most), error


def test_the_indices_of_ishigami_are_found() -> None:
    """Variances by hand: V1 = (1 + b pi^4 / 5)^2 / 2, V2 = a^2 / 8, V13 = b^2 pi^8 8 / 225 (Ishigami and Homma 1990), a = 7, b = 0.1."""
    one, two, both = 0.5 * (1 + 0.1 * np.pi**4 / 5) ** 2, 49 / 8, 0.01 * np.pi**8 * 8 / 225
    whole = one + two + both
    found = sensitivity(saltelli(Ishigami.evaluate), "y")
    table = found.table.set_index("key")
    assert list(table.index) == ["x1", "x2", "x3"]
    inside(table["first"], np.array([one, two, 0]) / whole, table["first_error"], 0.1)
    inside(table["total"], np.array([one + both, two, both]) / whole, table["total_error"], 0.1)
    assert found.pairs is not None
    pairs = found.pairs.set_index(["key", "other"])
    assert list(pairs.index) == [("x1", "x2"), ("x1", "x3"), ("x2", "x3")]
    inside(pairs["second"], np.array([0, both, 0]) / whole, pairs["second_error"], 0.15)
    assert (found.unit, found.points, found.replications, found.lost) == ("USD", 8192, 1, 0)
    assert np.isnan(found.noise)


def test_without_second_order_there_are_no_pairs() -> None:
    found = sensitivity(saltelli(Ishigami.evaluate, second_order=False), "y")
    assert found.pairs is None
    assert found.points == 1024 * 5
    assert found.table["first"].iloc[1] == pytest.approx(0.442, abs=0.05)


def test_noise_of_seeds_is_told_and_is_what_a_key_without_effect_comes_to() -> None:
    def one(x: Any) -> Any:
        return x[:, 0]  # variance 1 / 12

    quiet = sensitivity(saltelli(one, about=CUBE), "y").table
    assert quiet["first"].to_list() == pytest.approx([1, 0, 0], abs=0.03)
    noisy = sensitivity(saltelli(one, about=CUBE, several=2, noise=0.5), "y")
    share = (0.25 / 2) / (1 / 12 + 0.25 / 2)
    assert noisy.noise == pytest.approx(share, rel=0.05)
    assert noisy.table["total"].iloc[1:].to_list() == pytest.approx([share, share], rel=0.1)
    assert noisy.table["first"].iloc[0] == pytest.approx(1 - share, abs=0.1)
    more = sensitivity(saltelli(one, about=CUBE, several=8, noise=0.5), "y")
    assert more.noise == pytest.approx((0.25 / 8) / (1 / 12 + 0.25 / 8), rel=0.05)


def test_what_a_seed_does_to_all_points_alike_is_no_noise() -> None:
    found = sensitivity(saltelli(Ishigami.evaluate, n=64, several=3, noise=5.0, common=True), "y")
    alone = sensitivity(saltelli(Ishigami.evaluate, n=64), "y")
    assert found.noise == pytest.approx(0, abs=1e-12)
    pd.testing.assert_frame_equal(found.table, alone.table)


@pytest.mark.parametrize("levels", [4, 6])
def test_morris_ranks_and_gives_effects_of_whole_ranges(levels: int) -> None:
    def function(x: Any) -> Any:
        return 4 * x[:, 0] - 2 * x[:, 1] + 6 * x[:, 0] * x[:, 2]

    table = sensitivity(trajectories(function, levels=levels, n=200), "y").table.set_index("key")
    assert table["mu"].to_list() == pytest.approx([4 + 6 / 2, -2, 6 / 2], abs=0.5)
    assert table["mu_star"].to_list() == pytest.approx([7, 2, 3], abs=0.5)
    assert table.loc["x2", "sigma"] == pytest.approx(0, abs=1e-9)  # it adds, and nothing else
    assert table.loc["x1", "sigma"] > 1
    assert (table["mu_star_error"] < 0.5).all()


def test_morris_of_a_key_on_a_log_range_goes_by_shares_of_it() -> None:
    design = {"kind": "morris", "problem": problem([[0.0, 1.0], [1.0, 1000.0]]), "levels": 4, "log": ["x2"]}
    shares = morris.sample(problem([[0.0, 1.0]] * 2), 30, num_levels=4, seed=1)
    inputs = np.column_stack([shares[:, 0], 1000.0 ** shares[:, 1]])
    found = sensitivity(made(design, inputs, lambda x: x[:, 0] + np.log10(x[:, 1])), "y")
    assert found.table["mu_star"].to_list() == pytest.approx([1, 3])


def test_the_noise_of_morris_is_the_effect_of_a_key_without_one() -> None:
    found = sensitivity(trajectories(lambda x: 5 * x[:, 0], n=400, several=4, noise=0.6), "y")
    table = found.table.set_index("key")
    assert found.noise == pytest.approx(2 * np.sqrt(0.09 / np.pi) / (2 / 3), rel=0.05)
    assert table.loc[["x2", "x3"], "mu_star"].to_list() == pytest.approx([found.noise] * 2, rel=0.1)
    assert table.loc["x1", "mu_star"] == pytest.approx(5, abs=0.1)


def test_slopes_of_straight_lines_are_exact_and_by_the_range() -> None:
    found = sensitivity(filled(lines), "y")
    assert found.table["slope"].to_list() == pytest.approx([5, 0, -3], abs=1e-9)
    assert found.linear == pytest.approx(1)
    assert np.isnan(found.noise)


def test_intervals_of_slopes_hold_what_is_known_nine_times_of_ten() -> None:
    held = []
    for seed in range(100):
        sweep = filled(lines, n=20)
        sweep.table["y"] += np.random.default_rng(seed).normal(0.0, 2.0, 20)
        table = sensitivity(sweep, "y").table
        held += list(np.abs(table["slope"] - [5, 0, -3]) <= table["slope_error"])
    assert 255 <= sum(held) <= 285  # of 300; binomial, three standard deviations about 270


def test_lines_that_explain_nothing_come_to_nothing() -> None:
    found = sensitivity(filled(lambda x: 0.0 * x[:, 0], n=1000, several=2, noise=1.0), "y")
    assert abs(found.linear) < 0.05
    assert found.noise == pytest.approx(1, abs=0.2)


def test_slopes_do_without_a_lost_point_but_not_without_enough() -> None:
    sweep = filled(lines, n=7)
    sweep.table.loc[2, ["y", "error"]] = [np.nan, "boom"]
    found = sensitivity(sweep, "y")
    assert (found.points, found.lost) == (6, 1)
    assert found.table["slope"].to_list() == pytest.approx([5, 0, -3], abs=1e-9)
    sweep.table.loc[3, ["y", "error"]] = [np.nan, "boom"]
    with pytest.raises(
        ScenarioError, match=r"^design: 5 points with runs that went well for 3 slopes; play 6 or more$"
    ):
        sensitivity(sweep, "y")


def test_slopes_need_ranges() -> None:
    sweep = filled(lines)
    sweep.manifest["spec"]["vary"]["x2"] = {"values": [0, 1]}
    with pytest.raises(
        ScenarioError, match=r"^vary\.x2 has values, and slopes go between the ends of ranges; give from and to$"
    ):
        sensitivity(sweep, "y")


def test_a_lost_run_is_counted_and_a_lost_point_refused() -> None:
    sweep = saltelli(Ishigami.evaluate, n=32, several=2, noise=0.1)
    sweep.table.loc[6, ["y", "error"]] = [np.nan, "boom"]
    sweep.table.loc[11, "y"] = np.inf
    assert sensitivity(sweep, "y").lost == 2
    sweep.table.loc[7, ["y", "error"]] = [np.nan, "boom again"]
    with pytest.raises(ScenarioError) as error:
        sensitivity(sweep, "y")
    assert str(error.value) == (
        "1 of 256 points have no run that went well, and the design cannot lack one; the first: boom; mend it, and the sweep goes on"
    )
    short = Sweep(sweep.table.iloc[:-4], sweep.manifest)
    with pytest.raises(ScenarioError, match=r"^3 of 256 points have no run"):
        sensitivity(short, "y")


def test_the_order_of_the_table_does_not_matter() -> None:
    sweep = saltelli(Ishigami.evaluate, n=32, several=2, noise=0.1)
    mixed = Sweep(sweep.table.sample(frac=1, random_state=1), sweep.manifest)
    pd.testing.assert_frame_equal(sensitivity(mixed, "y").table, sensitivity(sweep, "y").table)


@pytest.mark.parametrize(
    ("change", "measure", "line"),
    [
        ({"kind": "grid"}, "y", "design: is grid; this needs one of saltelli, morris, latin, sobol (abm sweep)"),
        ({}, "yy", "measure: 'yy' is not in this sweep. Did you mean y?"),
        ({}, "flat", "measure: flat is 3 at all points; it depends on nothing that was varied"),
    ],
)
def test_what_does_not_do_is_one_line(change: dict[str, Any], measure: str, line: str) -> None:
    sweep = saltelli(Ishigami.evaluate, n=8)
    sweep.table["flat"] = 3.0
    sweep.manifest["measures"]["flat"] = {"unit": "", "about": ""}
    sweep.manifest["design"] |= change
    with pytest.raises(ScenarioError) as error:
        sensitivity(sweep, measure)
    assert str(error.value) == line


# --------------------------------------------------------------------------------------------------------- the command


def abm(*arguments: str) -> tuple[int, str, str]:
    answer = CliRunner().invoke(cli.app, list(arguments))
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer.exit_code, answer.stdout, answer.stderr


@pytest.mark.parametrize("kind", ["saltelli", "morris", "latin"])
def test_the_command_prints_writes_and_draws(kind: str, tmp_path: Path) -> None:
    sweep = (
        saltelli(Ishigami.evaluate, n=64, several=2, noise=1.0)
        if kind == "saltelli"
        else trajectories(Ishigami.evaluate, several=2, noise=0.1)
        if kind == "morris"
        else filled(Ishigami.evaluate, several=2, noise=1.0)
    )
    sweep.write(tmp_path / "made")
    csv, figure = tmp_path / "s.csv", tmp_path / "s.png"
    code, out, err = abm(
        "sensitivity", str(tmp_path / "made"), "--measure", "y", "--csv", str(csv), "--figure", str(figure)
    )
    assert (code, err) == (0, "")
    assert "noise" in out
    assert list(pd.read_csv(csv)["key"]) == ["x1", "x2", "x3"]
    assert figure.stat().st_size > 10_000
    code, out, _ = abm("sensitivity", str(tmp_path / "made"), "--measure", "y", "--json")
    told = json.loads(out)
    assert (told["kind"], told["measure"], len(told["keys"])) == (kind, "y", 3)
    assert 0 < told["noise"] < 1
    assert ("pairs" in told) == (kind == "saltelli")
    assert (told["linear"] is not None) == (kind == "latin")


def test_the_command_with_one_replication_says_that_noise_is_not_known(tmp_path: Path) -> None:
    saltelli(Ishigami.evaluate, n=8, second_order=False).write(tmp_path / "made")
    code, out, _ = abm("sensitivity", str(tmp_path / "made"), "--measure", "y")
    assert code == 0
    assert "one run a point: the noise of seeds is not known" in out
    code, out, _ = abm("sensitivity", str(tmp_path / "made"), "--measure", "y", "--json")
    assert json.loads(out)["noise"] is None
    assert abm("sensitivity", str(tmp_path / "none"), "--measure", "y")[0] == 2


def test_figures_have_all_keys() -> None:
    for sweep in (
        saltelli(Ishigami.evaluate, n=32),
        trajectories(Ishigami.evaluate, several=2, noise=0.1),
        filled(lines),
    ):
        figure = sensitivity_figure(sensitivity(sweep, "y"), "made")
        labels = [*figure.axes[0].get_yticklabels(), *figure.axes[0].texts]
        assert {"x1", "x2", "x3"} <= {label.get_text().split()[0] for label in labels}
