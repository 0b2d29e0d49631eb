"""`abm reproduce`: how a paper is found, configured and judged, and that each paper's exact values are computed twice."""

import json
import math
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import Field
from typer.testing import CliRunner

from abm.scenario import ScenarioError
from experiments import cli
from experiments.papers import Estimate, Measured, Paper, Parameters, find, judgement, papers
from experiments.papers.judgement import Row, judge, read

HEAD = "quantity,value,kind,tolerance,tolerance_kind,gate,source\n"


class Config(Parameters):
    QUICK_RUNS = 10

    runs: int = Field(1000, ge=1)
    rate: float = Field(0.5, description="a rate")


class MadeUp(Paper):
    """A paper that needs no engine."""

    @property
    def title(self) -> str:
        return "a paper that nobody wrote"

    @property
    def model(self) -> Any:
        return SimpleNamespace(
            Config=Config, measure=self._measure, exact=lambda config: {f"mean at {config.rate:g}": config.rate}
        )

    @property
    def figure(self) -> Any:
        from matplotlib.figure import Figure

        return SimpleNamespace(draw=lambda config, measured: Figure(figsize=(1, 1)))

    @staticmethod
    def _measure(config: Config, progress: Any) -> Measured:
        progress(1, 1)
        error = 1 / config.runs**0.5
        return Measured({f"mean at {config.rate:g}": Estimate(config.rate + 0.02, error), "spread": Estimate(3.0)})


def made_up(folder: Path, *rows: str) -> MadeUp:
    (folder / "reference.csv").write_text(HEAD + "".join(row + "\n" for row in rows))
    return MadeUp("made-up", folder)


def verdicts(rows: list[Row]) -> dict[str, bool | None]:
    return {row.quantity: row.passed for row in rows}


@pytest.mark.parametrize(
    ("tolerance", "kind", "passes", "quickly"),
    [
        ("0.03", "absolute", True, True),
        ("0.01", "absolute", False, True),
        ("0.05", "relative", True, True),
        ("0.03", "relative", False, True),
        ("1", "standard errors", True, True),
        ("0.5", "standard errors", False, False),
        ("", "", None, None),
    ],
)
def test_a_value_is_judged_by_the_tolerance_of_its_row(
    tmp_path: Path, tolerance: str, kind: str, passes: bool | None, quickly: bool | None
) -> None:
    paper = made_up(tmp_path, f"mean at 0.5,0.5,exact,{tolerance},{kind},hard,x")
    measured = Measured({"mean at 0.5": Estimate(0.52, 0.025)})
    assert verdicts(judge(paper, Config(), measured)) == {"mean at 0.5": passes}
    assert verdicts(judge(paper, Config(), measured, quick=True)) == {"mean at 0.5": quickly}


def test_what_was_not_measured_or_is_no_number_fails(tmp_path: Path) -> None:
    paper = made_up(tmp_path, "mean at 0.5,0.5,exact,0.1,absolute,hard,x", "spread,3,printed,1,absolute,soft,x")
    rows = judge(paper, Config(), Measured({"spread": Estimate(math.nan)}))
    assert verdicts(rows) == {"mean at 0.5": False, "spread": False}
    assert {row.quantity: row.hard for row in rows} == {"mean at 0.5": True, "spread": False}
    assert rows[0].to_dict()["measured"] is None


def test_where_parameters_were_moved_only_closed_forms_are_gated(tmp_path: Path) -> None:
    paper = made_up(tmp_path, "mean at 0.5,0.5,exact,0.03,absolute,hard,x", "spread,9,printed,1,absolute,hard,x")
    config = Config(rate=0.7)
    rows = judge(paper, config, paper.model.measure(config, lambda *_: None))
    assert verdicts(rows) == {"mean at 0.7": True, "spread": None}
    assert rows[0].reference == 0.7
    assert rows[0].tolerance == 0.03
    assert not Config(seed=9, runs=5).moved


def test_estimates() -> None:
    assert Estimate.mean([1, 2, 3, 4]) == (2.5, pytest.approx((5 / 3 / 4) ** 0.5))
    assert Estimate.share(25, 100).error == pytest.approx((26 / 102 * 76 / 102 / 100) ** 0.5)
    assert Estimate.share(0, 100).value == 0
    assert Estimate.share(0, 100).error > 0


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("rat=1", "made-up: rat is not a parameter. Did you mean rate? (abm reproduce made-up --list)"),
        ("runs=0", "made-up: runs = 0 should be greater than or equal to 1 (abm reproduce made-up --list)"),
        ("rate", "'rate': write key=value, such as seed=2 (abm reproduce made-up --list)"),
        ("rate=[", "made-up: rate = '[' cannot be read"),
    ],
)
def test_a_wrong_parameter_is_one_line(tmp_path: Path, change: str, line: str) -> None:
    with pytest.raises(ScenarioError) as wrong:
        made_up(tmp_path).configured([change])
    assert str(wrong.value) == line


def test_quick_has_fewer_runs_unless_they_are_given(tmp_path: Path) -> None:
    paper = made_up(tmp_path)
    assert paper.configured([], quick=True).runs == 10
    assert paper.configured(["runs=77"], quick=True).runs == 77


# -------------------------------------------------------------------------------------------------------- the command


def abm(*arguments: str) -> tuple[int, str, str]:
    answer = CliRunner().invoke(cli.app, ["reproduce", *arguments])
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer.exit_code, answer.stdout, answer.stderr


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shelf with the made-up paper only, and an empty working folder."""
    (tmp_path / "paper").mkdir()
    paper = made_up(
        tmp_path / "paper", "mean at 0.5,0.5,exact,0.03,absolute,hard,x", "spread,9,printed,1,absolute,soft,x"
    )
    monkeypatch.setattr("experiments.papers.papers", lambda: {"made-up": paper})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_it_prints_the_table_and_keeps_it_with_a_figure(alone: Path) -> None:
    code, out, err = abm("made-up")
    assert (code, err) == (0, "")
    assert "reference" in out
    assert "yes" in out
    assert "NO (soft)" in out
    folder = alone / "runs" / "reproduce" / "made-up"
    assert sorted(path.name for path in folder.iterdir()) == ["figure.png", "result.json"]
    kept = json.loads((folder / "result.json").read_text())
    assert kept["passed"] is True
    assert kept["parameters"] == {"seed": 1, "runs": 1000, "rate": 0.5}
    assert [row["quantity"] for row in kept["rows"]] == ["mean at 0.5", "spread"]
    assert abm("made-up", "--json") == (0, (folder / "result.json").read_text(), "")  # an earlier result is replaced


def test_a_hard_row_that_fails_is_status_1_and_is_kept_all_the_same(alone: Path) -> None:
    (alone.parent / "paper" / "reference.csv").write_text(HEAD + "mean at 0.5,0.7,exact,0.03,absolute,hard,x\n")
    code, out, err = abm("all", "--out", "there", "--json")
    assert (code, err) == (1, "made-up: not reproduced: mean at 0.5\n")
    assert json.loads(out)[0]["passed"] is False
    assert (alone / "there" / "made-up" / "result.json").is_file()


def test_it_refuses_what_it_cannot_do_before_it_begins(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MadeUp, "_measure", None)
    (alone / "full").mkdir()
    (alone / "full" / "x").write_text("")
    for arguments, line in (
        (["maid-up"], "maid-up: no such paper. Did you mean made-up? (abm reproduce --list)"),
        (["all", "--set", "seed=2"], "--set: parameters are those of one paper; name it"),
        (["made-up", "--out", "full"], "full: is there already; choose another --out or remove it"),
    ):
        assert abm(*arguments) == (2, "", line + "\n")


def test_list(alone: Path) -> None:
    assert json.loads(abm("--list", "--json")[1]) == [{"paper": "made-up", "what": "a paper that nobody wrote"}]
    assert "0.5" in abm("made-up", "--list")[1]


# --------------------------------------------------------------------------------------------------------- the papers


@pytest.mark.parametrize("name", papers())
def test_every_folder_is_whole_and_its_exact_values_are_computed_twice(name: str) -> None:
    paper = find(name)
    table = read(paper.folder / "reference.csv")
    assert table
    assert len(paper.title) > 10
    config = paper.configured([])
    assert not config.moved
    assert paper.configured([], quick=True).runs <= config.runs
    assert all(meaning for _, _, meaning in paper.parameters())
    for quantity, value in getattr(paper.model, "exact", lambda _: {})(config).items():
        assert value == pytest.approx(table[quantity].value, rel=1e-9, abs=1e-9), quantity


class TestLiquidationCascade:
    """The first paper: its distribution by another road, and the exchange against a plain twin."""

    def test_the_distribution_is_that_of_a_branching_process(self) -> None:
        """P(total = k) from the generating function, coefficient by coefficient: the total of one is 1 + the totals of its Poisson offspring."""
        from experiments.papers.liquidation_cascade_2026.model import at_least, borel_tanner

        ratio, most = 0.8, 30
        whole = np.zeros(most + 1)
        for _ in range(most):  # each round makes one more coefficient right
            power, term = np.zeros(most + 1), np.zeros(most + 1)
            term[0] = 1.0
            for n in range(most + 1):
                power += math.exp(-ratio) * ratio**n / math.factorial(n) * term
                term = np.convolve(term, whole)[: most + 1]
            whole = np.concatenate(([0.0], power[:-1]))
        np.testing.assert_allclose(borel_tanner(np.arange(1, most + 1), ratio), whole[1:], rtol=1e-12)
        assert at_least(10, ratio) == pytest.approx(1 - whole[:10].sum())
        pair = np.convolve(whole, whole)[: most + 1]
        np.testing.assert_allclose(borel_tanner(np.arange(2, most + 1), ratio, 2), pair[2:], rtol=1e-12)

    def test_water_filling_leaves_what_is_asked(self) -> None:
        from experiments.papers.liquidation_cascade_2026.model import water_filling

        leverage, *gone = water_filling().values()
        assert sum(gone) == pytest.approx(9)
        assert leverage == pytest.approx(float(Fraction(25, 6)))

    @pytest.mark.parametrize(
        ("change", "line"),
        [
            ("leverage=20", "maintenance must be further below 1 / leverage, or positions are due as they open"),
            (
                "fall=0.2",
                "fall must stay below 0.9 x maintenance / (1 + maintenance), or the book falls below bankruptcy prices",
            ),
            ("ratios=[0.999]", "ratios: cascades at 0.999 are too long for a fall of 0.04; raise fall or price"),
            ("ratios=[1.2]", "ratios.0 = 1.2 should be less than 1"),
        ],
    )
    def test_parameters_that_the_book_cannot_carry_are_refused(self, change: str, line: str) -> None:
        with pytest.raises(ScenarioError, match="liquidation-cascade: ") as wrong:
            find("liquidation-cascade").configured([change])
        assert line in str(wrong.value)

    @pytest.mark.parametrize(("start", "terms"), [(1, {}), (2, {"leverage": 7, "maintenance": 0.06, "fall": 0.05})])
    def test_the_exchange_liquidates_whom_the_plain_twin_does(self, start: int, terms: dict[str, float]) -> None:
        from experiments.papers.liquidation_cascade_2026.model import Config, fall

        config = Config(start=start, price=2_000, step=3, depth=2, ratios=(0.5,), **terms)
        rng = np.random.default_rng(start)
        levels = config.top - 1 - rng.integers(0, config.territory, config.territory // 4)
        shocks = 200
        started, totals, faults = fall(config, levels, shocks)
        assert faults == 0
        assert (started.tolist(), totals.tolist()) == twin(levels.tolist(), config.top, shocks, start, config.step)
        assert totals.max() > 5

    def test_a_small_sample_is_reproduced(self) -> None:
        paper = find("liquidation-cascade")
        config = paper.configured(["runs=2000"])
        measured = paper.model.measure(config, lambda *_: None)
        rows = judge(paper, config, measured, quick=True)
        assert [row.quantity for row in rows if not row.passed] == []
        assert len(rows) == len(read(paper.folder / "reference.csv"))

    def test_a_fall_out_of_the_levels_is_a_fault(self) -> None:
        from experiments.papers.liquidation_cascade_2026.model import Config, fall

        config = Config(price=2_000, ratios=(0.5,))
        assert fall(config, np.array([config.top - 5]), config.territory)[2] >= 1


def twin(levels: list[int], mark: int, shocks: int, start: int, step: int) -> tuple[list[int], list[int]]:
    """What each sale sets off itself, and in all: the highest level at or above the mark goes, and moves the mark."""
    left = sorted(levels)
    started, totals = [], []
    for _ in range(shocks):
        mark -= start
        started.append(sum(level >= mark for level in left))
        total = 0
        while left and left[-1] >= mark:
            left.pop()
            mark -= step
            total += 1
        totals.append(total)
    return started, totals


def test_a_table_with_a_mistake_is_refused(tmp_path: Path) -> None:
    row = "mean,1,exact,0,absolute,hard,x\n"
    (tmp_path / "twice.csv").write_text(HEAD + row + row)
    with pytest.raises(ValueError, match="stands twice"):
        read(tmp_path / "twice.csv")
    (tmp_path / "kind.csv").write_text(HEAD + "mean,1,guessed,0,absolute,hard,x\n")
    with pytest.raises(ValueError, match="guessed"):
        judgement.read(tmp_path / "kind.csv")
