"""`abm compare`: several runs beside what was observed, and one line where they do not belong together."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import abm as simulator
from analysis import compare
from experiments import cli
from tests.unit.small_cascade import small_cascade

TWO_HOURS = {"start": "2026-02-04T18:00Z", "end": "2026-02-04T20:00Z", "step": "1min"}
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


def test_a_run_in_which_a_perpetual_left_its_index_is_named(tmp_path: Path) -> None:
    result = simulator.run(small_cascade(clock=TWO_HOURS))
    far = result.bars["mid"].where(result.bars["instrument"] != "btc-perp", result.bars["mid"] * 0.9)
    for seed, bars in enumerate((result.bars, result.bars.assign(mid=far)), 1):
        replace(result, bars=bars, summary=result.summary | {"seed": seed}).save(tmp_path / str(seed))
    sound, broken = str(tmp_path / "1"), str(tmp_path / "2")
    assert "Far from its index" not in abm("compare", sound)[1]
    said = abm("compare", sound, broken)[1]
    assert f"{broken}: Far from its index in the mean of an hour: btc-perp -10." in said and f"{sound}: Far" not in said
    assert list(json.loads(abm("compare", sound, broken, "--json")[1])["strayed"]) == [broken]


def test_a_run_says_how_far_its_perpetual_was_from_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hour = ["run", "one-sale", "--set", "clock.end=2026-02-05T01:00Z", "--set", "clock.step=20s"]
    content = json.loads(abm(*hour, "--out", str(tmp_path / "a"), "--json")[1])
    assert list(content["premiums"]) == ["btc-perp"]
    monkeypatch.setattr(compare, "STRAYED", 0.0)
    said = abm(*hour, "--out", str(tmp_path / "b"))[1]
    assert said.count(f"; widest premium {content['premiums']['btc-perp']:+.2%}") == 1
    assert "Far from its index in the mean of an hour: btc-perp" in said


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
