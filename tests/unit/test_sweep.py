"""`abm sweep` from the command line: the table and its folder, what is repeated and what is not, and other ways to the same runs."""

import errno
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

from abm.scenario import ScenarioError, load
from analysis.sweep import Sweep
from experiments.callables import Simulator, batch_run
from experiments.cli import app
from tests.unit import measures

ROOT = Path(__file__).resolve().parents[2]
ACCOUNTS, VOLUME = "traders.noise.accounts", "traders.noise.volume_per_day"
SPEC: Mapping[str, Any] = {
    "scenario": "first-hour",
    "set": {"clock.end": "2026-02-05T00:01Z"},
    "vary": {VOLUME: [20_000, 40_000]},
    "replications": 2,
    "measures": ["return", "spread"],
}
OWN = ("--measure", "tests.unit.measures:counted")


@pytest.fixture(autouse=True)
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which measures of tests count runs, in a folder in which the test is."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "counted"
    file.write_text("")
    monkeypatch.setenv("ABM_COUNTED", str(file))
    return file


def sweep(*arguments: object, **changes: Any) -> Result:
    Path("small.yaml").write_text(yaml.safe_dump({**SPEC, **changes}))
    return CliRunner().invoke(app, ["sweep", "small.yaml", *map(str, arguments)], env={"COLUMNS": "200"})


def test_from_the_command_line_to_the_table(counted: Path) -> None:
    said = sweep(*OWN)
    assert said.exit_code == 0, said.output
    assert "runs/sweeps/small: 4 runs of 2 points" in said.stdout and "Medians over the replications" in said.stdout
    found = Sweep.read("runs/sweeps/small")
    table = found.table
    assert list(table.columns) == [
        *("point", "replication", "seed", "scenario_hash", VOLUME, "return", "spread", "close", "nothing"),
        *("seconds", "stage", "error", "traceback"),
    ]
    assert table[["point", "replication", "seed", VOLUME]].to_numpy().tolist() == [
        [0, 0, 1, 20_000], [0, 1, 2, 20_000], [1, 0, 1, 40_000], [1, 1, 2, 40_000],
    ]  # fmt: skip
    assert table["scenario_hash"][2] == load("first-hour", **{**SPEC["set"], VOLUME: 40_000}).hash
    assert table["spread"].gt(0).all() and table["nothing"].isna().all() and table["error"].eq("").all()
    assert found.keys == [VOLUME] and found.measures == ["return", "spread", "close", "nothing"]
    assert found.manifest["measures"]["spread"]["unit"] == "bp"
    assert found.manifest["counts"] == {"points": 2, "replications": 2, "runs": 4, "failed": {}}
    assert found.manifest["design"] == {"kind": "grid", "points": 2}
    assert found.manifest["spec"]["vary"] == {VOLUME: {"values": [20_000, 40_000]}}
    points = found.points(["spread"], (0.0, 1.0))
    first = table["spread"][:2]
    assert points.loc[0, ["median", "low", "high", "runs", "failed"]].tolist() == [
        first.median(),
        first.min(),
        first.max(),
        2,
        0,
    ]
    assert not Path("runs/sweeps/small/failures.csv").exists()
    with pytest.raises(ScenarioError, match=r"^measure 'spred' is not in this sweep. Did you mean spread\?$"):
        found.points(["spred"])
    assert sorted(counted.read_text().split()) == ["1", "1", "2", "2"]


def test_the_same_command_plays_nothing_again_and_more_only_what_is_new(counted: Path) -> None:
    sweep(*OWN, "-q")
    before = Sweep.read("runs/sweeps/small").table
    again = sweep(*OWN, "--resume", "--json")
    assert json.loads(again.stdout)["counts"]["runs"] == 4
    pd.testing.assert_frame_equal(Sweep.read("runs/sweeps/small").table, before)
    assert len(counted.read_text().split()) == 4
    said = sweep(*OWN, "--dry-run", replications=3, vary={VOLUME: [20_000, 30_000, 40_000]})
    assert "small: 3 points (grid), 3 replications: 9 runs, 4 of them in runs/sweeps/small/runs.sqlite" in said.stdout
    assert re.search(r"^[0-9.e-]+ s a run, so about .* for 5 runs with --workers 1$", said.stdout, re.MULTILINE)
    assert len(counted.read_text().split()) == 4
    assert sweep(*OWN, "-q", replications=3, vary={VOLUME: [20_000, 30_000, 40_000]}).exit_code == 0
    assert len(counted.read_text().split()) == 9


def test_what_raises_is_a_row_and_is_tried_again(counted: Path) -> None:
    said = sweep("--measure", "tests.unit.measures:raises")
    assert said.exit_code == 0
    last = said.stderr.splitlines()[-1]
    assert last == "2 of 4 runs failed (failures.csv), the first: measure: RuntimeError: seed 2 is not liked"
    found = Sweep.read("runs/sweeps/small")
    assert found.failures["replication"].tolist() == [1, 1] and found.manifest["counts"]["failed"] == {"measure": 2}
    assert found.failures["stage"].eq("measure").all()
    assert found.failures["traceback"].str.contains("RuntimeError: seed 2").all()
    assert found.points()["failed"].eq(1).all() and found.points(["return"])["runs"].eq(1).all()
    assert pd.read_csv("runs/sweeps/small/failures.csv")["seed"].tolist() == [2, 2]
    said = sweep("--measure", "tests.unit.measures:words")
    assert said.exit_code == 2
    assert said.stderr.splitlines()[-1].startswith(
        "no run went well; the first: measure: ValueError: could not convert"
    )
    assert len(Sweep.read("runs/sweeps/small").failures) == 4


def test_an_audit_that_fails_and_a_market_that_breaks_have_their_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from abm.agents.noise import NoiseTraders
    from abm.clearing.ledger import Ledger

    honest = Ledger.audit
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "audit", lambda self: replace(honest(self), faults=("account 7: cash -1",)))
        assert sweep("-q").exit_code == 2
    failed = Sweep.read("runs/sweeps/small").failures
    assert failed["stage"].eq("audit").all() and failed["error"].eq("the audit failed: account 7: cash -1").all()

    def breaks(*_: object) -> None:
        raise RuntimeError("broken")

    for method, stage in (("setup", "build"), ("decide", "run")):
        with monkeypatch.context() as patch:
            patch.setattr(NoiseTraders, method, breaks)
            sweep("-q")
        failed = Sweep.read("runs/sweeps/small").failures
        assert failed["stage"].eq(stage).all() and failed["error"].eq("RuntimeError: broken").all()


def test_two_workers_come_to_the_same_table(counted: Path) -> None:
    raises = ("--measure", "tests.unit.measures:raises", "-q")
    assert sweep(*raises, "--out", "alone").exit_code == 0
    assert sweep(*raises, "--out", "two", "--workers", 2).exit_code == 0
    alone, two = (Sweep.read(folder).table for folder in ("alone", "two"))
    unlike = ["seconds", "traceback"]
    pd.testing.assert_frame_equal(alone.drop(columns=unlike), two.drop(columns=unlike))


def test_tables_are_kept_by_run_and_a_run_whose_table_has_gone_is_played_again(counted: Path) -> None:
    assert sweep(*OWN, "-q", keep=["bars", "trades"]).exit_code == 0
    found = Sweep.read("runs/sweeps/small")
    bars = found.kept("bars")
    assert bars[["point", "replication"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert bars["close"].tolist() == found.table["close"].tolist()
    assert len(found.kept("trades")) > 4
    with pytest.raises(ScenarioError, match=r"^'bar' was not kept. Did you mean bars\?; name it under keep"):
        found.kept("bar")
    gone = sorted(Path("runs/sweeps/small/tables/bars").iterdir())[0]
    gone.unlink()
    said = sweep(*OWN, "--dry-run", keep=["bars", "trades"])
    assert "4 runs, 3 of them in" in said.stdout
    assert sweep(*OWN, "-q", keep=["bars", "trades"]).exit_code == 0
    assert gone.is_file() and len(counted.read_text().split()) == 5
    assert sweep(*OWN, "-q", keep=[]).exit_code == 0
    assert len(counted.read_text().split()) == 5


def test_the_queries_of_the_documentation_find_what_the_table_has(monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    sweep("-q", keep=["bars"])
    text = (ROOT / "docs/concepts/sweeps.md").read_text()
    queries = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    assert len(queries) == 2
    found = Sweep.read("runs/sweeps/small")
    over, depth = (
        duckdb.sql(query.replace("makers-and-flow", "small").replace("volume", f'"{VOLUME}"')).df() for query in queries
    )
    spread = found.points(["spread"])
    assert over["spread"].tolist() == pytest.approx(spread["median"].tolist())
    assert depth["runs"].sum() == 2 == (found.kept("bars")["replication"] == 0).sum()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--resume",), "runs/sweeps/small/runs.sqlite: there is nothing to go on with; leave out --resume, or name"),
        (("--out", "full"), "full: is there already; choose another --out or remove it"),
        (("--measure", "nothing:here"), "measure 'nothing:here': ModuleNotFoundError: No module named 'nothing'; write module:function"),
        (("--scheduler", "tcp://127.0.0.1:1"), "scheduler tcp://127.0.0.1:1: OSError: Timed out"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(
    arguments: tuple[str, ...], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import distributed

    real = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda address, timeout: real(address, timeout=0.2))
    Path("full").mkdir()
    Path("full/mine").touch()
    said = sweep(*arguments)
    assert said.exit_code == 2
    assert said.stderr.startswith(line) and said.stderr.count("\n") == 1


def test_a_folder_that_is_no_sweep_is_one_line() -> None:
    with pytest.raises(
        ScenarioError, match=r"^nowhere: no sweep that has come to an end \(manifest.json, runs.parquet\)"
    ):
        Sweep.read("nowhere")
    sweep("-q")
    manifest = Path("runs/sweeps/small/manifest.json")
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(ScenarioError, match=r"^runs/sweeps/small: has format 9 and not 1; run the sweep again$"):
        Sweep.read("runs/sweeps/small")
    sweep("-q")
    Path("runs/sweeps/small/runs.parquet").write_bytes(b"PAR1")
    with pytest.raises(ScenarioError, match=r"^runs/sweeps/small: cannot be read \(.*\); run the sweep again$"):
        Sweep.read("runs/sweeps/small")


def test_a_full_disk_at_the_end_is_one_line_and_leaves_nothing_half(
    counted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_table: object, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", full)
        said = sweep(*OWN, "-q")
    assert said.exit_code == 2
    assert "No space left on device" in said.stderr and "the same command writes this again" in said.stderr
    assert said.stderr.count("\n") == 1
    assert [path.name for path in Path("runs/sweeps/small").iterdir()] == ["runs.sqlite"]
    assert sweep(*OWN, "-q").exit_code == 0
    assert len(counted.read_text().split()) == 4


def test_a_full_disk_in_between_is_one_line_and_what_was_kept_stays(
    counted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if len(counted.read_text().split()) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return whole(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        said = sweep(*OWN, "-q", keep=["bars"])
    assert said.exit_code == 2
    assert re.match(
        r"runs/sweeps/small/tables/bars/\w+.parquet: No space left on device; see to the disk; what was", said.stderr
    )
    assert sweep(*OWN, "-q", keep=["bars"]).exit_code == 0
    assert len(counted.read_text().split()) == 5  # only the one that could not be kept is played again


# ------------------------------------------------------------------------------------------------------------ other ways


def test_what_can_be_measured_is_listed() -> None:
    said = CliRunner().invoke(app, ["sweep", "--list-measures"], env={"COLUMNS": "200"})
    assert re.search(r"^drawdown +1 +each +deepest fall", said.stdout, re.MULTILINE)
    listed = CliRunner().invoke(app, ["sweep", "--list-measures", "--json"])
    assert json.loads(listed.stdout)["depth"]["unit"] == "USD"
    nothing = CliRunner().invoke(app, ["sweep"])
    assert (nothing.exit_code, nothing.stderr.count("\n")) == (2, 1)


def test_a_batch_run_has_the_rows_of_mesa(capsys: pytest.CaptureFixture[str]) -> None:
    from mesa import DataCollector, Model
    from mesa.batchrunner import batch_run as mesa_batch_run

    class Their(Model):
        def __init__(self, a: int, b: str, rng: int | None = None) -> None:
            super().__init__(rng=rng)
            self.running = True
            self.datacollector = DataCollector({"size": lambda model: a})

        def step(self) -> None:
            self.datacollector.collect(self)

    theirs = mesa_batch_run(Their, {"a": [1, 2], "b": "x"}, rng=[1, 2], max_steps=1, display_progress=False)
    parameters = {VOLUME: np.array([20_000.0, 40_000.0]), "clock.end": "2026-02-05T00:01Z"}
    rows = batch_run(
        "first-hour", parameters, iterations=2, display_progress=False, measures=["return", measures.close]
    )
    assert [(row["RunId"], row["iteration"]) for row in rows] == [(row["RunId"], row["iteration"]) for row in theirs]
    assert [row[VOLUME] for row in rows] == [20_000, 40_000, 20_000, 40_000]
    assert set(rows[0]) == {"RunId", "iteration", "seed", *parameters, "return", "close", "nothing", "error"}
    sweep("-q")
    by_iteration = Sweep.read("runs/sweeps/small").table.sort_values(["replication", "point"])
    assert [row["return"] for row in rows] == by_iteration["return"].tolist()
    assert capsys.readouterr() == ("", "")


def test_calibrators_get_an_array_of_runs_and_measures(counted: Path) -> None:
    with Simulator(
        "first-hour", [VOLUME], ["return", measures.counted], set=SPEC["set"], store=Path("s.sqlite")
    ) as simulate:
        first = simulate([20_000.0], 2, 1)
        assert first.shape == (2, 3)
        assert (simulate(np.array([20_000.0]), 1, 2)[0, :2] == first[1, :2]).all()
        assert len(counted.read_text().split()) == 2
        with pytest.raises(ScenarioError, match=rf"^first-hour: {VOLUME} = -1.0 should be"):
            simulate([-1.0], 1, 1)
    sweep("-q")
    assert first[:, 0].tolist() == Sweep.read("runs/sweeps/small").table["return"].tolist()[:2]


def test_a_specification_alone_runs_no_code(tmp_path: Path) -> None:
    Path("mine.py").write_text("raise SystemExit('was run')\n")
    assert sweep(measures=["mine:anything"]).exit_code == 2
    assert "mine" not in sys.modules
