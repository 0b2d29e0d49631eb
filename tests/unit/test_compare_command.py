"""`abm compare`: several runs beside what was observed, and one line where they do not belong together."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments import cli

SHORT = ["run", "first-hour", "--quiet", "--set", "clock.end=2026-02-05T00:02Z"]


def abm(*arguments: str) -> tuple[int, str, str]:
    answer = CliRunner().invoke(cli.app, list(arguments))
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer.exit_code, answer.stdout, answer.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    place = tmp_path_factory.mktemp("runs")
    for seed in ("1", "2", "3"):
        assert abm(*SHORT, "--seed", seed, "--out", str(place / seed))[0] == 0
    return [str(place / seed) for seed in ("1", "2", "3")]


def test_a_table_of_several_runs(runs: list[str], tmp_path: Path) -> None:
    code, out, _ = abm("compare", *runs, "--csv", str(tmp_path / "c.csv"), "--figure", str(tmp_path / "c.png"))
    assert code == 0
    assert "btc.open.feb5" in out
    assert "put in" in out
    assert "0 of 0 observations fitted or predicted" in out
    assert "not covered: btc.close.feb5" in out
    assert (
        (tmp_path / "c.csv")
        .read_text()
        .startswith("observation,quantity,unit,observed,low,high,simulated,least,most,gap,runs,role,inside,note")
    )
    assert (tmp_path / "c.png").stat().st_size > 5_000


def test_json(runs: list[str]) -> None:
    content = json.loads(abm("compare", *runs, "--json")[1])
    assert content["scenario"] == "first-hour"
    assert [row["observation"] for row in content["comparison"]] == ["btc.open.feb5"]
    assert content["comparison"][0]["runs"] == 3
    assert "etf.holdings" in content["left_out"]["put in, not measured"]


def test_what_does_not_belong_together_is_refused(runs: list[str], tmp_path: Path) -> None:
    assert abm(*SHORT, "--seed", "4", "--out", str(tmp_path / "other"), "--set", "traders.noise.accounts=90")[0] == 0
    code, _, line = abm("compare", runs[0], str(tmp_path / "other"))
    assert code == 2
    assert "traders.noise.accounts is 90 and not 100" in line
    code, _, line = abm("compare", runs[0], runs[0])
    assert (code, "give each seed once" in line) == (2, True)
    code, _, line = abm("compare", runs[0], "--figure", str(tmp_path / "c.xyz"))
    assert (code, "must end with .png or .svg or .pdf" in line) == (2, True)
    code, _, line = abm("compare", runs[0], "--csv", str(tmp_path / "none" / "c.csv"))
    assert (code, "there is no folder" in line) == (2, True)
    code, _, line = abm("compare", str(tmp_path / "none"))
    assert (code, "not a run folder" in line) == (2, True)
    assert abm(*SHORT, "--out", str(tmp_path / "bare"), "--set", 'observations=""')[0] == 0
    code, _, line = abm("compare", str(tmp_path / "bare"))
    assert (code, "names no observations" in line) == (2, True)
