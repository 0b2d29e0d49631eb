"""`abm ablate` from the command line, and what it makes of outcomes."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from abm.random import stream
from abm.scenario import ScenarioError, load
from analysis.ablation import Ablation, design
from analysis.ablation_figure import ablation_figure
from analysis.measures import REGISTRY, WHOLE, cascade, chosen, functions, whole_run
from experiments.ablate import _ablation
from experiments.cli import app
from experiments.ensemble import Outcome
from experiments.options import seeds_of

LINKS = """
based_on: first-hour
name: linked
caveat: only a test
clock: {end: 2026-02-05T00:02Z}
links:
  funds: {about: "funds sell", off: {traders.etf: null}}
  retail: {off: {traders.retail: null}}
  noise: {off: {traders.noise.volume_per_day: 5000}}
"""


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    path = tmp_path / "linked.yaml"
    path.write_text(LINKS)
    return path


def ablate(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["ablate", *map(str, arguments)], env={"COLUMNS": "200"})


def test_every_set_is_played_where_that_takes_no_more_runs() -> None:
    rng = stream(1, "a", "b")
    every = design("abc", 4, rng)
    assert every.ways is None and len(every.coalitions) == len(set(every.coalitions)) == 8
    some = design("abcdef", 4, rng)
    assert some.ways is not None and len(some.ways) == 4
    assert len(some.coalitions) < 2**6
    assert some.coalitions[:2] == (frozenset("abcdef"), frozenset())
    alone = design("abcdef", 0, rng)
    assert not alone.shares and len(alone.coalitions) == 8


def test_the_shares_of_a_run_add_up_to_what_all_links_do(linked: Path, tmp_path: Path) -> None:
    csv, figure, store = tmp_path / "t.csv", tmp_path / "f.png", tmp_path / "runs.sqlite"
    arguments = (linked, "--seeds", "1-2", "--store", store, "--measures", "drawdown,btc-spot.spread,depth")
    first = ablate(*arguments, "--json", "--csv", csv, "--figure", figure)
    assert first.exit_code == 0, first.output
    said = json.loads(first.stdout)
    assert said["seeds"] == [1, 2] and said["sets_played"] == 8 and said["orders"] is None
    assert set(said["full"]) == {"btc-spot.drawdown", "btc-spot.spread", "btc-spot.depth"}
    for measure, full in said["full"].items():
        rows = [row for row in said["table"] if row["measure"] == measure]
        assert sum(row["share"] for row in rows) == pytest.approx(full - said["none"][measure], abs=1e-9 * abs(full))
        for row in rows:
            assert row["adds"] == pytest.approx(full - row["without"])
            assert row["error_orders"] == 0.0
    assert len(said["interactions"]) == 3 * 3
    assert csv.read_text().startswith("measure,link,without,adds,adds_error,share,")
    assert figure.stat().st_size > 10_000
    # The same command plays nothing again; with fewer links there is nothing to play either
    again = ablate(*arguments)
    assert "0 of 16 runs" not in again.stderr
    assert "Shapley value" in again.stdout and "funds: funds sell" in again.stdout and "only a test" in again.stdout
    one = json.loads(ablate(linked, "--seeds", "2", "--permutations", 2, "--store", store, "--json").stdout)
    assert one["orders"] == 2 and one["interactions"] is None
    assert {row["error_seeds"] for row in one["table"]} == {row["error_orders"] for row in one["table"]} == {None}
    planned = ablate(*arguments, "--only-single", "--dry-run")
    assert planned.stdout == f"3 links, single links, 2 seeds: 10 runs, 10 of them in {store}\n"


def test_only_single_links(linked: Path, tmp_path: Path) -> None:
    said = ablate(linked, "--only-single", "--store", tmp_path / "r.sqlite", "--measures", "return")
    assert said.exit_code == 0, said.output
    assert "Shapley" not in said.stdout and "it adds then" in said.stdout
    plan = ablate(linked, "--dry-run", "--store", tmp_path / "none.sqlite")
    assert "3 links, all 8 sets, seed 1: 8 runs, 0 of them in" in plan.stdout
    assert "a run, so about" in plan.stdout
    assert not (tmp_path / "none.sqlite").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("first-hour",), "first-hour: has no links; say under links what can be switched off (abm schema links)"),
        (("{}", "--permutations", 3), "permutations: 3 is odd, and each comes with its reverse; give 4"),
        (("{}", "--measures", "drawdwon"), "measures: 'drawdwon' is none. Did you mean drawdown?"),
        (("{}", "--measures", "btc-perp.depth"), "measures: 'btc-perp.depth': 'btc-perp' is not traded here. Did you mean btc-spot?"),
        (("{}", "--instrument", "btc-sport"), "instrument: 'btc-sport' is not traded here. Did you mean btc-spot?"),
        (("{}", "--seeds", "3-1"), "seeds: '3-1' is neither a seed nor a range; write 1,2 or 1-5"),
        (("{}", "--figure", "x.bmp"), "x.bmp: must end with .png or .svg or .pdf"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(linked: Path, arguments: tuple[object, ...], line: str) -> None:
    said = ablate(*(str(linked) if argument == "{}" else argument for argument in arguments))
    assert said.exit_code == 2
    assert said.stderr.startswith(line) and said.stderr.count("\n") == 1


def test_a_set_of_links_that_leaves_no_scenario_is_named(tmp_path: Path) -> None:
    """Two that do not go together, and a third that takes out whom they are about: each alone is well, and all are."""
    path = tmp_path / "three.yaml"
    path.write_text(
        "based_on: first-hour\nname: three\ntraders: {insiders: {kind: informed}}\nlinks:\n"
        "  late: {off: {traders.insiders.start: 40min}}\n"
        "  short: {off: {traders.insiders.end: 30min}}\n"
        "  insiders: {off: {traders.insiders: null}}\n"
    )
    said = ablate(path, "--dry-run")
    assert said.exit_code == 2
    line = "three: with the links late, short off: end = 1800 is before start = 2400; make it later\n"
    assert said.stderr == line


def test_a_seed_of_which_a_run_failed_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    plan = design("ab", 2, stream(1, "a", "b"))
    worth = {coalition: float(len(coalition)) for coalition in plan.coalitions}

    def outcomes(*failing: tuple[frozenset[str], int]) -> list[Outcome]:
        return [
            Outcome("", seed, {}, 0.0, "it broke") if (c, seed) in failing else Outcome("", seed, {"x": worth[c] * seed}, 0.0)
            for c in plan.coalitions
            for seed in (1, 2)
        ]  # fmt: skip

    found = _ablation(plan, ["x"], [1, 2], outcomes((frozenset("a"), 2)))
    assert found.seeds == (1,)
    assert found.table["share"].tolist() == [1.0, 1.0]
    assert "seed 2 is left out: 1 of its runs failed, the first with b off: it broke" in capsys.readouterr().err
    with pytest.raises(ScenarioError, match="no seed of which all runs went well"):
        _ablation(plan, ["x"], [1, 2], outcomes((frozenset("a"), 2), (frozenset(), 1)))


def test_errors_over_seeds_and_over_orders() -> None:
    """Two seeds: what a link adds depends on the seed, and on the order for one of them."""
    plan = design("abcdef", 8, stream(2, "a", "b"))
    assert plan.ways is not None

    def worth(coalition: frozenset[str]) -> list[list[float]]:
        together = float({"a", "b"} <= coalition)
        return [[len(coalition) + together, 3.0 * len(coalition) + together]]

    found = Ablation(plan, ("x",), (1, 2), {c: np.array(worth(c)) for c in plan.coalitions})
    table = found.table.set_index("link")
    assert found.interactions is None
    assert table["share"].sum() == pytest.approx(2 * 6 + 1)
    assert table.loc["c", "share"] == pytest.approx(2.0)
    assert table.loc["c", "error_seeds"] == pytest.approx(1.0)
    assert table.loc["c", "error_orders"] == 0.0
    assert table.loc["a", "error_orders"] == 0.0  # in one of each pair it comes after b: a half, whatever was drawn
    assert table.loc["a", "share"] == pytest.approx(2.5)


def test_measures_of_a_run_have_names_and_units(played: Any) -> None:
    taken = whole_run(played)
    about = played.summary["instruments"]["btc-spot"]
    assert taken["btc-spot.return"] == pytest.approx(about["return"])
    assert taken["btc-spot.low"] == about["low"] and taken["btc-spot.high"] == about["high"]
    assert (
        taken["btc-spot.spread"] == about["median_spread_bps"] and taken["btc-spot.depth"] == about["median_bid_depth"]
    )
    assert about["drawdown"] <= taken["btc-spot.drawdown"] < 0  # that of the summary looks at every step
    assert taken["liquidated_usd"] == 0.0
    assert {name.rpartition(".")[2] for name in taken} == {
        name for name, each in REGISTRY.items() if each.function == WHOLE
    }
    assert chosen(["drawdown", "liquidated_usd", "b.depth", "b.liquidated_usd"], ["a", "b"], "a") == [
        "a.drawdown", "liquidated_usd", "b.depth", "b.liquidated_usd",
    ]  # fmt: skip


def test_measures_are_asked_for_by_the_functions_that_take_them(played: Any) -> None:
    assert cascade(played) == {"largest_cascade": 0.0, "generations": 0.0, "defaulted_usd": 0.0}
    for function in {each.function for each in REGISTRY.values()}:
        module, _, name = function.partition(":")
        taken = getattr(import_module(module), name)(played)
        mine = [name for name, each in REGISTRY.items() if each.function == function]
        assert set(chosen(mine, ["btc-spot"], "btc-spot")) <= set(taken)
    assert functions(["drawdown", "b.depth"]) == WHOLE
    assert functions(["generations", "drawdown"]) == "analysis.measures:cascade+analysis.measures:whole_run"
    with pytest.raises(ScenarioError, match=r"^measures: 'a.generations': generations is of all instruments together"):
        chosen(["a.generations"], ["a"], "a")


@pytest.fixture(scope="module")
def played() -> Any:
    import abm

    return abm.run(load("first-hour", clock={"end": "2026-02-05T00:05Z"}))


def test_the_figure_has_a_panel_for_each_measure() -> None:
    plan = design("ab", 2, stream(1, "a", "b"))
    game = {c: np.array([[0.01 * len(c)], [2e6 * len(c)]]) for c in plan.coalitions}
    table = Ablation(plan, ("drawdown", "liquidated_usd"), (1,), game).table
    figure = ablation_figure(table, {"drawdown": "1", "liquidated_usd": "USD"}, "a title")
    assert [ax.get_xlabel() for ax in figure.axes] == ["percentage points", "million USD"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(("text", "seeds"), [("", []), ("7", [7]), ("1,2,2", [1, 2]), ("1-3, 2", [1, 2, 3])])
def test_seeds_are_written_one_by_one_or_as_a_range(text: str, seeds: list[int]) -> None:
    assert seeds_of(text) == seeds
