"""Many runs: the same here and on workers, nothing played twice, and what goes wrong costs one run and one line."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import abm
from abm.scenario import Scenario, ScenarioError
from experiments import one_run
from experiments.ensemble import Ensemble, Outcome, play

ROOT = Path(__file__).resolve().parents[2]
HERE = "tests.unit.measures"


def short(seed: int) -> Scenario:
    return abm.load("first-hour", seed=seed, clock={"end": "2026-02-05T00:01Z"})


@pytest.fixture(autouse=True)
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the measures of tests count runs."""
    file = tmp_path / "counted"
    file.write_text("")
    monkeypatch.setenv("ABM_COUNTED", str(file))
    return file


def test_outcomes_come_in_the_order_of_the_scenarios_and_none_is_played_twice(tmp_path: Path, counted: Path) -> None:
    asked = [short(seed) for seed in (3, 1, 3, 2)]
    store = tmp_path / "new" / "runs.sqlite"
    outcomes = play(asked, f"{HERE}:counted", store=store)
    assert [outcome.seed for outcome in outcomes] == [3, 1, 3, 2]
    assert [outcome.scenario for outcome in outcomes] == [scenario.hash for scenario in asked]
    assert len({outcome.measures["close"] for outcome in outcomes}) == 3
    assert outcomes[0].seconds > 0
    assert counted.read_text().split() == ["3", "1", "2"]
    assert play([*asked, short(4)], f"{HERE}:counted", store=store)[:4] == outcomes
    assert counted.read_text().split() == ["3", "1", "2", "4"]
    assert play(asked[:1], f"{HERE}:close", store=store) == outcomes[:1]  # another measure: played again
    assert play(asked, f"{HERE}:counted") == outcomes  # without a store, too
    assert len(counted.read_text().split()) == 7


def test_another_version_or_other_observations_are_played_again(
    tmp_path: Path, counted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "runs.sqlite"
    seen = tmp_path / "seen.csv"
    seen.write_text("id\n")
    scenario = abm.load(short(1).name, clock={"end": "2026-02-05T00:01Z"}, observations=str(seen))
    for _ in range(2):
        play([scenario, short(1)], f"{HERE}:counted", store=store)
        assert len(counted.read_text().split()) == 1  # one hash, and what it is held against is no part of it
    one_run._digest.cache_clear()
    seen.write_text("id,value\n")
    play([scenario], f"{HERE}:counted", store=store)
    assert len(counted.read_text().split()) == 2
    monkeypatch.setattr(abm, "__version__", "9")
    one_run._digest.cache_clear()
    play([scenario], f"{HERE}:counted", store=store)
    assert len(counted.read_text().split()) == 3
    one_run._digest.cache_clear()


def test_what_goes_wrong_in_a_run_is_its_outcome_and_is_tried_again(tmp_path: Path, counted: Path) -> None:
    asked, store = [short(seed) for seed in (1, 2, 3)], tmp_path / "runs.sqlite"
    for times in (1, 2):
        bad = play(asked, f"{HERE}:raises", store=store)[1]
        assert (bad.error, bad.measures) == ("RuntimeError: seed 2 is not liked", {})
        assert counted.read_text().split() == ["1", "3"], times
    assert play(asked[:1], f"{HERE}:words")[0].error == "ValueError: could not convert string to float: 'high'"


def test_an_audit_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from abm.clearing.ledger import Ledger

    honest = Ledger.audit
    monkeypatch.setattr(Ledger, "audit", lambda self: replace(honest(self), faults=("account 7: cash -1",)))
    assert play([short(1)], f"{HERE}:close")[0].error == "the audit failed: account 7: cash -1"


def test_workers_come_to_the_same_and_one_that_dies_costs_only_its_run(tmp_path: Path, counted: Path) -> None:
    asked = [short(seed) for seed in range(1, 6)]
    alone = play(asked, f"{HERE}:close")
    with Ensemble(f"{HERE}:kills", store=tmp_path / "runs.sqlite", workers=2) as workers:
        first = workers.play(asked)
        died = Outcome(asked[1].hash, 2, {}, 0.0, "the worker died, 2 times (killed, or out of memory)", "worker")
        assert first == [alone[0], died, *alone[2:]]
        assert sorted(counted.read_text().split()) == ["1", "2", "2", "3", "3", "4", "5"]
        assert workers.play(asked[2:]) == alone[2:]
        assert len(counted.read_text().split()) == 7


def test_the_workers_of_a_scheduler_come_to_the_same_and_stay(counted: Path) -> None:
    from distributed import Client, LocalCluster

    asked = [short(seed) for seed in (1, 2, 3)]
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
    ) as cluster:
        outcomes = play(asked, f"{HERE}:raises", scheduler=cluster.scheduler_address)
        with Client(cluster) as client:
            assert len(client.nthreads()) == 1
    assert [outcome.error for outcome in outcomes] == ["", "RuntimeError: seed 2 is not liked", ""]
    assert outcomes == play(asked, f"{HERE}:raises")


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_command_that_is_killed_goes_on_where_it_stopped(tmp_path: Path, counted: Path) -> None:
    store = tmp_path / "runs.sqlite"
    program = f"""
from pathlib import Path
from experiments.ensemble import play
from tests.unit.test_ensemble import short
play([short(seed) for seed in range(1, 6)], "{HERE}:driver", store=Path({str(store)!r}))
"""
    for status, lines in ((-signal.SIGKILL, ["1", "2", "3"]), (0, ["1", "2", "3", "3", "4", "5"])):
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
        assert done.returncode == status
        assert counted.read_text().split() == lines


def _gone(group: int) -> bool:
    """Whether nobody is left of a group of processes, a little later."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_control_c_says_what_is_kept(tmp_path: Path, counted: Path) -> None:
    program = f"""
from pathlib import Path
import typer
from experiments.cli import _answers
from experiments.ensemble import play
from tests.unit.test_ensemble import short

def command() -> None:
    play([short(seed) for seed in range(1, 200)], "{HERE}:counted", store=Path("runs.sqlite"), workers=2, label="many")

if __name__ == "__main__":
    app = typer.Typer()
    app.command()(_answers(command))
    app()
"""
    script = tmp_path / "many.py"
    script.write_text(program)
    started = subprocess.Popen(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + 60
    while len(counted.read_text().split()) < 4 and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to the command and to its workers
    out, err = started.communicate(timeout=30)
    last = err.splitlines()[-1]
    assert (started.returncode, out) == (130, ""), err
    assert last.startswith("interrupted: ")
    assert last.endswith(" of 199 runs are kept in runs.sqlite; the same command goes on from there")
    assert "Traceback" not in err
    with sqlite3.connect(tmp_path / "runs.sqlite") as base:
        kept = base.execute("SELECT count(*) FROM runs").fetchone()[0]
    base.close()
    assert f"interrupted: {kept} of" in last
    assert _gone(started.pid)


def test_a_script_that_begins_itself_anew_in_its_workers_is_told_why(tmp_path: Path) -> None:
    script = tmp_path / "many.py"
    script.write_text(f"""
from experiments.ensemble import play
from tests.unit.test_ensemble import short
play([short(1), short(2)], "{HERE}:counted", workers=2)
""")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1  # of the script, and none of its workers
    assert done.stderr.rstrip().endswith('put what it does below: if __name__ == "__main__":')


def test_a_store_that_is_none_is_one_line(tmp_path: Path) -> None:
    words = tmp_path / "words.sqlite"
    words.write_text("not a store\n" * 100)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as base:
        base.execute("CREATE TABLE theirs (x)")
    base.close()
    later = tmp_path / "later.sqlite"
    play([], f"{HERE}:close", store=later)
    with sqlite3.connect(later) as base:
        base.execute("PRAGMA user_version = 99")
    base.close()
    for path, line in (
        (words, "file is not a database; it is not a store of runs; name another, or remove it"),
        (other, "is not a store of runs; name another, or remove it"),
        (later, "has layout 99 and not 2; name another store, or remove it to begin anew"),
        (tmp_path, "unable to open database file; name a file that can be written"),
    ):
        with pytest.raises(ScenarioError) as error:
            play([short(1)], f"{HERE}:close", store=path)
        assert str(error.value) == f"{path}: {line}"


def test_a_store_that_is_cut_short_is_one_line(tmp_path: Path, counted: Path) -> None:
    store = tmp_path / "runs.sqlite"
    play([short(seed) for seed in (1, 2)], f"{HERE}:counted", store=store)
    whole = store.read_bytes()
    for size in (len(whole) // 3, len(whole) // 2 + 10, len(whole) - 1):
        store.write_bytes(whole[:size])
        with pytest.raises(
            ScenarioError, match=r"runs.sqlite: .*is damaged; remove it, and its runs are played again$"
        ):
            play([short(1)], f"{HERE}:counted", store=store)
    store.unlink()
    play([short(1)], f"{HERE}:counted", store=store)
    assert len(counted.read_text().split()) == 3


@pytest.mark.skipif(os.name != "posix", reason="limits of a process")
def test_a_full_disk_is_one_line_and_what_was_kept_stays(tmp_path: Path, counted: Path) -> None:
    store = tmp_path / "runs.sqlite"
    many = [short(seed) for seed in range(1, 40)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    play(many[:2], f"{HERE}:counted", store=store)
    resource.setrlimit(resource.RLIMIT_FSIZE, (store.stat().st_size + 100, before[1]))
    try:
        with pytest.raises(ScenarioError, match=r"runs.sqlite: .*; what was kept before stays, and the same command"):
            play(many, f"{HERE}:counted", store=store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    played = len(counted.read_text().split())
    assert 2 < played < 39
    play(many, f"{HERE}:counted", store=store)
    assert len(counted.read_text().split()) == 39 + 1  # only the one that could not be kept is played again


@pytest.mark.parametrize(
    ("measure", "line"),
    [
        ("tests.unit.measures:clse", "AttributeError: module 'tests.unit.measures' has no attribute 'clse'"),
        ("tests.unit.measure:close", "ModuleNotFoundError: No module named 'tests.unit.measure'"),
        ("close", "ModuleNotFoundError: No module named 'close'"),
        ("", "ValueError: Empty module name"),
    ],
)
def test_a_measure_that_is_not_there_is_one_line(measure: str, line: str) -> None:
    with pytest.raises(ScenarioError) as error:
        play([short(1)], measure)
    assert str(error.value) == f"measure {measure!r}: {line}; write module:function, such as analysis.compare:measured"


def test_no_workers_and_no_scheduler_are_one_line() -> None:
    with pytest.raises(ScenarioError, match=r"^workers: 0 is none; give 1 or more$"):
        play([short(1)], f"{HERE}:close", workers=0)
    with pytest.raises(ScenarioError, match=r"^scheduler nowhere://1: .*; start one with: dask scheduler$"):
        play([short(1)], f"{HERE}:close", scheduler="nowhere://1")


def test_a_version_tells_observation_files_apart_and_a_run_leaves_no_market_behind() -> None:
    import gc

    from abm.market import Market
    from experiments.one_run import Job, play_one, version

    small = abm.load("first-hour", clock={"end": "2026-02-05T00:01Z"})
    other = small.model_copy(update={"observations": "stylised.csv"})
    assert small.hash == other.hash
    assert version(f"{HERE}:close", small) != version(f"{HERE}:close", other)
    gc.collect()
    before = sum(isinstance(each, Market) for each in gc.get_objects())
    play_one(small, Job(f"{HERE}:close"))
    assert sum(isinstance(each, Market) for each in gc.get_objects()) == before
