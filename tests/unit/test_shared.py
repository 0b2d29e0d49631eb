"""A store in PostgreSQL: the same as a file, for several commands at once, and one line where the database is not as it should be."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psycopg
import pytest
import yaml

import abm
from abm.scenario import Scenario, ScenarioError
from experiments.database import shown
from experiments.ensemble import play
from experiments.store import Outcome, Store
from tests.unit.postgres import QUOTED, Server, server, why_not
from tests.unit.test_calibrate import SCENARIO, SEEN, SPEC

ROOT = Path(__file__).resolve().parents[2]
HERE = "tests.unit.measures"

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with server() as started:
        yield started


@pytest.fixture(autouse=True)
def empty(postgres: Server) -> Iterator[None]:
    """Each test begins with an empty database."""
    yield
    with psycopg.connect(postgres.url(), autocommit=True) as base:
        base.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


@pytest.fixture(autouse=True)
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "counted"
    file.write_text("")
    monkeypatch.setenv("ABM_COUNTED", str(file))
    return file


def short(seed: int) -> Scenario:
    return abm.load("first-hour", seed=seed, clock={"end": "2026-02-05T00:01Z"})


# ---------------------------------------------------------------------------------------------------------------- runs


def test_a_database_keeps_what_a_file_keeps(postgres: Server, tmp_path: Path, counted: Path) -> None:
    asked = [short(seed) for seed in (1, 2)]
    file = play(asked, f"{HERE}:counted", store=tmp_path / "runs.sqlite")
    assert play(asked, f"{HERE}:counted", store=postgres.url()) == file
    assert counted.read_text().split() == ["1", "2", "1", "2"]
    assert play(asked, f"{HERE}:counted", store=postgres.url()) == file  # by another connection
    assert len(counted.read_text().split()) == 4


@pytest.mark.parametrize("place", ["file", "database"])
def test_what_is_put_is_got_and_what_succeeded_stays(place: str, postgres: Server, tmp_path: Path) -> None:
    store = Store(postgres.url() if place == "database" else tmp_path / "runs.sqlite", "some:measure")
    failed = Outcome("abc", 2**40, {}, 1.5, "a\0b \udcff", "run", "line 1\nline\0 2")
    good = Outcome("abc", 2**40, {"price": 0.1, "none": float("inf")}, 2.5)
    store.put(failed, "small", "1")
    kept = store.get("abc", "1")
    assert kept is not None
    assert (kept.error, kept.stage, kept.traceback, kept.seconds) == ("a\\0b \\udcff", "run", "line 1\nline\\0 2", 1.5)
    for outcome in (good, failed):
        store.put(outcome, "small", "1")
        assert store.get("abc", "1") == good
    assert store.get("abc", "2") is None
    store.close()


def test_what_cannot_be_used_is_one_line_without_the_password(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.url()
    there = f"postgresql://abm:***@127.0.0.1:{postgres.port}/abm: "
    for place, begins, says in (
        (postgres.url(password="wr0ng"), there, "password authentication failed"),
        (postgres.url("none"), there[:-5] + "none: ", 'database "none" does not exist'),
        (url.replace(str(postgres.port), "1"), there.replace(str(postgres.port), "1"), "refused"),
        (url.replace(QUOTED, "s3cr@t"), "store: postgresql://abm:***@", "/DATABASE, @ in a password as %40"),
        (url.replace(QUOTED, "s3/cr@t:x"), "store: postgresql://abm:***@", "is no URL"),
        ("mysql://me:s3cr@here/abm", "store: mysql is no database for it", "give a file, or postgresql://USER@HOST/DATABASE"),
    ):  # fmt: skip
        with pytest.raises(ScenarioError) as error:
            Store(place, "some:measure")
        line = str(error.value)
        assert line.startswith(begins), line
        assert says in line, line
        assert "\n" not in line
        assert not any(secret in line for secret in ("s3", "cr@t", "wr0ng"))
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(
        ScenarioError, match=r"install the driver \(the extra postgresql\): pip install 'psycopg\[binary\]'$"
    ):
        Store(url, "some:measure")


def test_a_url_is_shown_without_its_password() -> None:
    assert shown("postgresql://me:a@b/c@here:5/base") == "postgresql://me:***@here:5/base"
    assert shown("postgresql://me@here/base?password=abc&sslmode=require").endswith("base?password=***&sslmode=require")
    assert shown("runs/a@b:c.sqlite") == "runs/a@b:c.sqlite"


def test_other_tables_and_layouts_are_refused(postgres: Server) -> None:
    where = shown(postgres.url())
    with psycopg.connect(postgres.url(), autocommit=True) as base:
        base.execute("CREATE TABLE runs (distance INTEGER)")
        with pytest.raises(ScenarioError, match=r"has a table runs that is no store of runs; name another database$"):
            Store(postgres.url(), "some:measure")
        base.execute("COMMENT ON TABLE runs IS 'abm runs, layout 1'")
        with pytest.raises(ScenarioError) as error:
            Store(postgres.url(), "some:measure")
    assert str(error.value) == f"{where}: has layout 1 and not 2; name another store, or remove it to begin anew"


def test_a_database_that_is_gone_is_one_line_and_what_was_kept_stays(
    postgres: Server, counted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, asked = Store.put, [short(seed) for seed in range(1, 5)]

    def put(self: Store, outcome: Outcome, name: str, version: str) -> None:
        if outcome.seed == 3:
            postgres.stop()
        honest(self, outcome, name, version)

    monkeypatch.setattr(Store, "put", put)
    try:
        with pytest.raises(ScenarioError) as error:
            play(asked, f"{HERE}:counted", store=postgres.url())
    finally:
        postgres.start()
    line = str(error.value)
    assert line.startswith(f"{shown(postgres.url())}: ")
    assert line.endswith("; what was kept before stays, and the same command goes on from there")
    assert "\n" not in line
    monkeypatch.undo()
    monkeypatch.setenv("ABM_COUNTED", str(counted))
    play(asked, f"{HERE}:counted", store=postgres.url())
    assert counted.read_text().split() == ["1", "2", "3", "3", "4"]


def test_a_database_that_was_gone_between_two_runs_changes_nothing(postgres: Server) -> None:
    store = Store(postgres.url(), "some:measure")
    postgres.stop()
    postgres.start()
    outcome = Outcome("abc", 1, {}, 1.0)
    store.put(outcome, "small", "1")
    assert store.get("abc", "1") == outcome
    store.close()


# -------------------------------------------------------------------------------------------------------------- a search

DRIVER = """
import pathlib, sys, time
from experiments import calibrate_held, cli, ensemble

calibrate_held.GRACE = 3.0
honest, hangs, runs = ensemble.play_one, int(sys.argv[1]), 0

def one(scenario, *rest, **more):
    global runs
    runs += 1
    if runs == hangs:
        pathlib.Path("hangs").touch()
        while not pathlib.Path("goes on").exists():
            time.sleep(0.1)
    with open("played", "a") as file:
        file.write(scenario.hash + "\\n")
    return honest(scenario, *rest, **more)

ensemble.play_one = one
cli.app(["calibrate", "tiny.yaml", *sys.argv[2:]])
"""


COMMANDS: list[subprocess.Popen[str]] = []


def write() -> None:
    Path("small.yaml").write_text(SCENARIO)
    Path("seen.csv").write_text(SEEN)
    Path("tiny.yaml").write_text(yaml.safe_dump({**SPEC, "trials": 4, "batch": 2}))
    Path("driver.py").write_text(DRIVER)
    Path("played").write_text("")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a calibration of four trials at two seeds, in which the test is; no command outlives it."""
    monkeypatch.chdir(tmp_path)
    write()
    yield tmp_path
    while COMMANDS:
        if (command := COMMANDS.pop()).poll() is None:
            command.kill()
            command.communicate()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The trials of one command with a file of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("alone"))
        write()
        over(driver("alone.sqlite", "alone", "--no-curvature"))
        return pd.read_csv("alone/trials.csv")


def driver(store: str, out: str, *more: str, hangs: int = 0) -> subprocess.Popen[str]:
    """A command whose so-many-th run hangs until it may go on."""
    begun = subprocess.Popen(
        [sys.executable, "driver.py", str(hangs), "--store", store, "--out", out, *more],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    COMMANDS.append(begun)
    return begun


def over(command: subprocess.Popen[str], status: int = 0) -> str:
    said, _ = command.communicate(timeout=300)
    assert command.returncode == status, said
    return said


def played() -> list[str]:
    return Path("played").read_text().split()


def until(true: Callable[[], bool]) -> None:
    last = time.monotonic() + 300
    while not true() and time.monotonic() < last:
        time.sleep(0.05)
    assert true()


def states(postgres: Server) -> dict[str, int]:
    with psycopg.connect(postgres.url()) as base:
        return dict(base.execute("SELECT state::text, count(*) FROM trials GROUP BY 1").fetchall())


def test_two_commands_share_a_search_and_repeat_nothing(postgres: Server, tiny: Path, alone: pd.DataFrame) -> None:
    two = [driver(postgres.url(), out) for out in ("a", "b")]
    for command in two:
        assert QUOTED not in over(command)
    assert len(played()) == len(set(played())) == 16  # four trials and four of curvature at two seeds
    for out in ("a", "b"):
        pd.testing.assert_frame_equal(pd.read_csv(f"{out}/trials.csv"), alone)
    assert Path("a/result.json").read_bytes() == Path("b/result.json").read_bytes()


def test_a_trial_of_a_command_that_is_killed_is_played_by_another(
    postgres: Server, tiny: Path, alone: pd.DataFrame
) -> None:
    killed = driver(postgres.url(), "a", hangs=6)  # of the second batch: it holds one trial of two
    until(Path("hangs").exists)
    other = driver(postgres.url(), "b", "--no-curvature")
    until(lambda: states(postgres) == {"COMPLETE": 3, "RUNNING": 1})
    time.sleep(5)  # longer than the silence that frees a trial: its holder is alive
    assert states(postgres) == {"COMPLETE": 3, "RUNNING": 1}
    assert len(played()) == 7
    killed.kill()
    killed.communicate()
    said = over(other)
    assert "trials 3 to 4 of 4: other commands hold those that are left" in said
    assert states(postgres) == {"COMPLETE": 4}
    assert len(played()) == len(set(played())) == 8  # what the dead one had finished of the trial counts
    pd.testing.assert_frame_equal(pd.read_csv("b/trials.csv"), alone)


def test_a_command_that_is_stopped_gives_its_trials_back(postgres: Server, tiny: Path) -> None:
    stopped = driver(postgres.url(), "a", hangs=6)
    until(Path("hangs").exists)
    stopped.send_signal(signal.SIGINT)
    last = over(stopped, 130).splitlines()[-1]
    assert last.startswith("interrupted: 1 of 2 runs are kept in postgresql://abm:***@127.0.0.1:")
    assert "other commands" not in over(driver(postgres.url(), "b", "--no-curvature"))
    assert len(played()) == len(set(played())) == 8


def test_a_search_whose_database_goes_is_one_line_and_goes_on(
    postgres: Server, tiny: Path, alone: pd.DataFrame
) -> None:
    broken = driver(postgres.url(), "a", "--quiet", hangs=6)
    until(Path("hangs").exists)
    postgres.stop()
    Path("goes on").touch()
    try:
        said = over(broken, 2)
    finally:
        postgres.start()
    assert said.count("\n") == 1
    assert said.startswith(f"{shown(postgres.url())}: ")
    assert said.endswith("; what was kept before stays, and the same command goes on from there\n")
    over(driver(postgres.url(), "a", "--no-curvature"))
    pd.testing.assert_frame_equal(pd.read_csv("a/trials.csv"), alone)
