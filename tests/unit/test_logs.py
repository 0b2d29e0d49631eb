"""What is logged: one way to hear it, useful lines, no warnings that nobody can do something about, and no print in the library."""

import ast
import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

import abm
from experiments import cli
from experiments.ensemble import play
from experiments.logs import PACKAGES, listen

ROOT = Path(__file__).resolve().parents[2]
SHORT = {"clock.end": "2026-02-05T00:02Z"}


@pytest.fixture(autouse=True)
def quiet_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.chdir(tmp_path)
    yield None
    listen(0)


def said(*options: str) -> list[str]:
    run = ["run", "first-hour", "--set", "clock.end=2026-02-05T00:02Z", "--quiet"]
    answer = CliRunner().invoke(cli.app, [*options, *run])
    assert (answer.exit_code, answer.stdout) == (0, "")
    return [line.split(" ms ", 1)[1] for line in answer.stderr.splitlines()]


def test_verbose_says_what_is_read_played_and_kept() -> None:
    lines = said("--verbose")
    scenarios = ROOT / "configs" / "scenarios"
    assert lines[:2] == [
        f"abm.scenario: reads a scenario from {scenarios / 'first-hour.yaml'}",
        f"abm.scenario: reads a scenario from {scenarios / 'spot.yaml'}",
    ]
    told = "abm.market: sets up first-hour, seed 1: 1 instruments, 2115 accounts of 7 traders, 120 steps of 1 s"
    assert told in lines
    assert any(line.startswith("abm.market: played first-hour in ") for line in lines)
    assert any(line.startswith("analysis.compare: reads observations from ") for line in lines)
    assert lines[-1].startswith("abm.record: kept runs/first-hour-seed1-")
    assert not any("noise (noise)" in line for line in lines)


def test_twice_says_more_and_nothing_says_nothing() -> None:
    assert "abm.market: noise (noise): 100 accounts" in said("-vv")
    assert said() == []


def test_what_is_compiled_is_said(caplog: pytest.LogCaptureFixture) -> None:
    from numba import njit

    listen(2)
    with caplog.at_level(logging.DEBUG, "experiments.logs"):
        assert njit(lambda x: x + 1)(1) == 2
    assert any("compiles" in message and "lambda" in message for message in caplog.messages)


def test_an_ensemble_says_what_it_has_and_who_plays(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    runs = [abm.load("first-hour", **SHORT)]
    with caplog.at_level(logging.DEBUG, "experiments.ensemble"):
        for _ in range(2):
            play(runs, "analysis.compare:measured", store=tmp_path / "kept.sqlite", silent=True)
    first, run, second = caplog.messages
    assert first == f"1 runs, of which 0 are kept in {tmp_path / 'kept.sqlite'}"
    assert run.startswith("first-hour, seed 1: ") and run.endswith(" s")
    assert second == f"1 runs, of which 1 are kept in {tmp_path / 'kept.sqlite'}"


def test_a_run_that_goes_well_warns_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    abm.run(abm.load("first-hour", **SHORT))
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def library() -> list[tuple[Path, ast.Module]]:
    return [
        (path, ast.parse(path.read_text("utf-8")))
        for folder in ("abm", "analysis")
        for path in (ROOT / folder).rglob("*.py")
    ]


def test_the_library_prints_nothing() -> None:
    """What a library has to say it logs, returns or raises: pages that explain are written by the commands."""
    printing = [
        f"{path}:{node.lineno}"
        for path, tree in library()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "pprint")
    ]
    assert printing == []


def test_loggers_are_named_after_their_modules() -> None:
    """So that those of a package can be heard, or not, by its name."""
    named = []
    for folder in PACKAGES:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr == "getLogger"
                ):
                    named.append((path.relative_to(ROOT).as_posix(), [ast.unparse(argument) for argument in node.args]))
    assert len(named) >= 7
    assert [name for name in named if name[1] != ["__name__"] and name[0] != "experiments/logs.py"] == []
