"""Sweeps on a scheduler of one's own, and what may happen to them: workers and drivers that die, runs that take too much, other code."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

import abm
from abm.agents.noise import NoiseTraders
from analysis.sweep import Sweep
from experiments import ensemble, one_run
from experiments.cli import app
from experiments.one_run import Job, Limits, play_one

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")

ROOT = Path(__file__).resolve().parents[2]
MEASURES = "tests.unit.measures"
SPEC: Mapping[str, Any] = {
    "scenario": "first-hour",
    "set": {"clock.end": "2026-02-05T00:01Z"},
    "vary": {"traders.noise.volume_per_day": [20_000, 40_000]},
    "replications": 4,
    "seeds": "common",
    "measures": ["return", "spread"],
}


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("counted") / "counted"


class Cluster:
    """A scheduler and two workers, each a process of its own with what it has begun."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        file = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--host", "127.0.0.1", "--scheduler-file", str(file))
        until = time.monotonic() + 60
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.05)
        self.address = str(yaml.safe_load(file.read_text())["address"])
        place = ("--nthreads", "1", "--no-dashboard", "--local-directory", str(folder))
        self.workers = [self._start("worker", self.address, *place) for _ in range(2)]

    def _start(self, what: str, *arguments: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "dask", what, *arguments]
        if what == "scheduler":
            command.append("--no-dashboard")
        none = subprocess.DEVNULL
        return subprocess.Popen(
            command, cwd=ROOT, env=self._environment, stdout=none, stderr=none, start_new_session=True
        )

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, counted: Path) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    found = Cluster(folder, os.environ | {"PYTHONPATH": str(ROOT), "ABM_COUNTED": str(counted)})
    yield found
    found.close()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, counted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which the test is, and an empty file in which measures count runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABM_COUNTED", str(counted))
    counted.write_text("")


def sweep(*arguments: object, **changes: Any) -> Result:
    Path("small.yaml").write_text(yaml.safe_dump({**SPEC, **changes}))
    return CliRunner().invoke(app, ["sweep", "small.yaml", "-q", *map(str, arguments)])


def table(folder: str) -> pd.DataFrame:
    return Sweep.read(folder).table.drop(columns=["seconds", "traceback"])


def test_a_scheduler_comes_to_the_same_as_this_process(cluster: Cluster) -> None:
    raises = ("--measure", f"{MEASURES}:raises")
    assert sweep(*raises, "--out", "alone").exit_code == 0
    assert sweep(*raises, "--out", "there", "--scheduler", cluster.address, keep=["bars"]).exit_code == 0
    alone = table("alone")
    pd.testing.assert_frame_equal(table("there"), alone)
    assert alone["stage"].eq("measure").sum() == 2
    assert len(Sweep.read("there").kept("bars")) == 6


def test_a_worker_that_is_begun_with_other_code_is_one_line(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, counted: Path
) -> None:
    monkeypatch.setattr(abm, "__version__", "9")
    one_run._digest.cache_clear()
    said = sweep("--scheduler", cluster.address)
    one_run._digest.cache_clear()
    assert said.exit_code == 2
    assert said.stderr.startswith("a worker has another version of the code (0.1.0+")
    assert ") than the command (9+" in said.stderr and said.stderr.count("\n") == 1
    Path("mine.py").write_text("def found(result):\n    return {'one': 1.0}\n")
    said = sweep("--scheduler", cluster.address, "--measure", "mine:found")
    assert (said.exit_code, said.stderr.count("\n")) == (2, 1)
    assert said.stderr.startswith("a worker cannot play (ScenarioError: measure 'mine:found': ModuleNotFoundError")


def test_a_run_over_its_time_is_a_row_and_the_worker_stays(cluster: Cluster) -> None:
    there = ("--scheduler", cluster.address)
    said = sweep(*there, limits={"seconds": 1e-9})
    assert said.exit_code == 2
    found = Sweep.read("runs/sweeps/small").table
    assert found["error"].eq("took longer than 1e-09 s (limits.seconds) and was stopped").all()
    assert found["stage"].eq("run").all() and found["traceback"].eq("").all()
    assert found["seconds"].max() < 2.0  # nothing is compiled, or loaded, in a run with a limit
    assert sweep(*there, limits={"seconds": 60}).exit_code == 0
    assert Sweep.read("runs/sweeps/small").failures.empty


def test_a_run_that_hangs_costs_its_worker_and_no_other_run(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, counted: Path
) -> None:
    monkeypatch.setattr(ensemble, "_GRACE", 0.5)
    began = time.monotonic()
    said = sweep("--measure", f"{MEASURES}:hangs", "--scheduler", cluster.address, limits={"seconds": 5})
    assert said.exit_code == 0 and time.monotonic() - began < 120
    found = Sweep.read("runs/sweeps/small")
    assert found.failures["replication"].tolist() == [1, 1]
    assert found.failures["error"].eq("took longer than 5 s (limits.seconds) and was stopped").all()
    assert found.failures["stage"].eq("run").all() and found.failures["seconds"].between(5.5, 30).all()
    assert len(counted.read_text().split()) == 6


def test_a_worker_that_is_killed_costs_nothing_but_its_run(cluster: Cluster, counted: Path) -> None:
    def kill() -> None:
        until = time.monotonic() + 60
        while len(counted.read_text().split()) < 3 and time.monotonic() < until:
            time.sleep(0.02)
        os.killpg(cluster.workers[0].pid, signal.SIGKILL)

    slow = ("--measure", f"{MEASURES}:slow")
    assert sweep(*slow, "--out", "alone").exit_code == 0
    counted.write_text("")
    killer = threading.Thread(target=kill)
    killer.start()
    said = sweep(*slow, "--out", "there", "--scheduler", cluster.address)
    killer.join()
    assert said.exit_code == 0, said.stderr
    assert cluster.workers[0].wait(10) == -signal.SIGKILL
    pd.testing.assert_frame_equal(table("there"), table("alone"))
    assert 8 <= len(counted.read_text().split()) <= 9  # the run that was lost may have been counted before


def test_a_scheduler_that_goes_is_one_line_and_the_same_command_goes_on(cluster: Cluster, counted: Path) -> None:
    """Last of those that use it."""

    def kill() -> None:
        until = time.monotonic() + 60
        while len(counted.read_text().split()) < 3 and time.monotonic() < until:
            time.sleep(0.02)
        cluster.close()

    slow = ("--measure", f"{MEASURES}:slow")
    killer = threading.Thread(target=kill)
    killer.start()
    said = sweep(*slow, "--scheduler", cluster.address)
    killer.join()
    assert said.exit_code == 2
    assert said.stderr.splitlines()[-1].startswith("the scheduler has gone")
    before = len(counted.read_text().split())
    assert sweep(*slow).exit_code == 0
    assert before + 4 < len(counted.read_text().split()) + 1 <= 10  # two at most were lost
    assert Sweep.read("runs/sweeps/small").failures.empty


def test_a_driver_that_is_killed_goes_on_and_repeats_nothing(counted: Path) -> None:
    Path("small.yaml").write_text(yaml.safe_dump(dict(SPEC)))
    command = [sys.executable, "-m", "experiments.cli", "sweep", "small.yaml", "-q", "--measure", f"{MEASURES}:driver"]
    for status, runs in ((-signal.SIGKILL, 3), (0, 9)):
        done = subprocess.run(
            [*command, *(["--resume"] if status == 0 else [])], env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        assert done.returncode == status
        assert len(counted.read_text().split()) == runs  # that which killed it is counted twice
        assert (Path("runs/sweeps/small/manifest.json").is_file()) == (status == 0)
    assert len(Sweep.read("runs/sweeps/small").table) == 8


def test_a_run_over_its_memory_is_stopped_and_what_it_had_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    scenario = abm.load("first-hour", **SPEC["set"])
    honest, taken = NoiseTraders.decide, []

    def hungry(self: Any, view: Any) -> Any:
        taken.append(np.ones(5_000_000))  # 40 MB
        return honest(self, view)

    job = Job("analysis.measures:whole_run", Limits(gigabytes=0.2))
    with monkeypatch.context() as patch:
        patch.setattr(NoiseTraders, "decide", hungry)
        outcome = play_one(scenario, job).outcome
    assert (outcome.stage, outcome.error) == ("run", "took more than 0.2 GB (limits.gigabytes) and was stopped")
    assert 5 <= len(taken) <= 12
    taken.clear()
    assert play_one(scenario, job).outcome.error == ""


def test_a_trader_that_leaves_the_program_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NoiseTraders, "decide", lambda *_: sys.exit("enough"))
    outcome = play_one(abm.load("first-hour", **SPEC["set"]), Job("analysis.measures:whole_run")).outcome
    assert (outcome.stage, outcome.error) == ("run", "SystemExit: enough")
    assert 'sys.exit("enough")' in outcome.traceback


def test_one_worker_of_this_machine_is_enough_for_limits_and_sees_what_stands_beside_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ensemble, "_GRACE", 0.5)
    Path("beside.py").write_text(
        """import time
def found(result):
    if result.summary["seed"] == 1 and result.scenario["traders"]["noise"]["volume_per_day"] == 20_000:
        time.sleep(600)
    return {"steps": result.summary["steps"]}
"""
    )
    assert sweep("--measure", "beside:found", replications=2, limits={"seconds": 4}).exit_code == 0
    found = Sweep.read("runs/sweeps/small")
    assert found.table["steps"].tolist()[1:] == [60, 60, 60]
    assert found.failures["error"].tolist() == ["took longer than 4 s (limits.seconds) and was stopped"]
