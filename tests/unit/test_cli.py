"""The command: what it prints, what it leaves behind, and one line with the right status where something is wrong."""

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments import cli, rundir

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["run", "first-hour", "--set", "clock.end=2026-02-05T00:02Z"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def abm(*arguments: str) -> tuple[int, str, str]:
    answer = CliRunner().invoke(cli.app, list(arguments))
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer.exit_code, answer.stdout, answer.stderr


def test_a_run_prints_its_table_and_leaves_a_whole_folder(tmp_path: Path) -> None:
    code, out, _ = abm(*SHORT, "--out", "here/run", "--check-determinism")
    assert code == 0
    assert "btc.open.feb5" in out
    assert "put in" in out
    assert "audit: passed, residue 0" in out
    assert "; volume " in out
    assert " coins in " not in out  # what is traded may be shares or contracts
    assert "equal: the run is deterministic" in out
    folder = tmp_path / "here" / "run"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(manifest["files"]) == sorted(path.name for path in folder.iterdir())
    assert manifest["status"] == "complete"
    assert manifest["event_log_hash"] in out
    assert {"python", "mesa", "numpy", "numba"} <= set(manifest["versions"])
    assert {p.name for p in (tmp_path / "here").iterdir()} == {"run"}


def test_json_is_json_and_quiet_is_quiet() -> None:
    code, out, _ = abm(*SHORT, "--json", "--seed", "5", "--out", "a")
    content = json.loads(out)
    assert code == 0
    assert content["summary"]["seed"] == 5
    assert content["audit"]["passed"] is True
    assert content["comparison"][0]["observation"] == "btc.open.feb5"
    assert abm(*SHORT, "--quiet", "--out", "b")[:2] == (0, "")


def test_runs_are_kept_under_runs_where_nothing_else_is_said(tmp_path: Path) -> None:
    assert abm(*SHORT, "-q")[0] == abm(*SHORT, "-q")[0] == 0
    folders = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert len(folders) == 2
    assert all(name.startswith("first-hour-seed1-") for name in folders)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "febuary-2026"], "febuary-2026: no such scenario. Did you mean february-2026? (abm list)"),
        (
            ["run", "first-hour", "--set", "traders.retial.accounts=10"],
            "first-hour: traders.retial is not a key. Did you mean traders.retail? (abm schema traders)",
        ),
        (
            ["run", "first-hour", "--set", "instruments.btc-spot.tick=-0.01"],
            "first-hour: instruments.btc-spot.tick = -0.01 should be greater than 0 (abm schema instruments)",
        ),
        (
            ["run", "first-hour", "--set", "seed"],
            "'seed': write key.path=value, such as traders.noise.accounts=100 (abm schema)",
        ),
        (
            ["run", "first-hour", "--seed", "-3"],
            "first-hour: seed = -3 should be greater than or equal to 0 (abm schema seed)",
        ),
        (["schema", "tradrs"], "tradrs: tradrs is not a key. Did you mean traders? (abm schema)"),
        (
            ["schema", "traders.nosie"],
            "traders.nosie: 'nosie' is not a kind of trader. Did you mean noise? (abm schema traders)",
        ),
        (["schema", "clock.stp"], "clock.stp: clock.stp is not a key. Did you mean clock.step? (abm schema clock)"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments: list[str], line: str, tmp_path: Path) -> None:
    assert abm(*arguments) == (2, "", line + "\n")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_and_one_that_cannot_be_written_are_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the run has begun")

    monkeypatch.setattr(cli, "_play", never)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    code, _, line = abm(*SHORT, "--out", "full")
    assert (code, line) == (2, "full: is there already; choose another --out or remove it\n")
    (tmp_path / "file").write_text("")
    code, _, line = abm(*SHORT, "--out", "file/run")
    assert code == 2
    assert "file: Not a directory; nothing was kept. Choose another place with --out" in line
    assert line.count("\n") == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="whoever is root may write everywhere")
def test_a_place_without_permission_is_refused(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    code, _, line = abm(*SHORT, "--out", str(locked / "run"))
    assert code == 2
    assert "Permission denied" in line


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _content: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path.name))

    monkeypatch.setattr(rundir, "write_json", full)
    code, _, line = abm(*SHORT, "--quiet", "--out", "run")
    assert code == 2
    assert (
        line
        == "manifest.json: No space left on device; nothing was kept. Free some space, or choose another place with --out\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_is_status_130_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import abm.market

    def interrupted(_market: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(abm.market.Market, "result", interrupted)
    assert globals()["abm"](*SHORT, "--quiet", "--out", "run") == (130, "", "interrupted: nothing was kept\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_control_c_on_the_real_command(tmp_path: Path) -> None:
    started = subprocess.Popen(
        [sys.executable, "-c", "from experiments.cli import app; app()", "run", "spot", "--out", "run"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stderr is not None
    assert started.stderr.readline() == "spot: 0 %\n"  # the run has begun
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=60)
    assert started.returncode == 130, err
    assert "interrupted: nothing was kept" in err
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_not_deterministic_and_one_whose_audit_fails_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    import abm.clearing.ledger as ledger
    import abm.recorder as recorder

    run = globals()["abm"]
    hashes = iter("ab")
    with monkeypatch.context() as patch:
        patch.setattr(recorder.LogHash, "hexdigest", lambda _self: next(hashes))
        code, _, line = run(*SHORT, "--quiet", "--out", "one", "--check-determinism")
    words = "first-hour: not deterministic: the event logs of two runs with seed 1 have the hashes a and b\n"
    assert (code, line) == (1, words)

    honest = ledger.Ledger.audit
    monkeypatch.setattr(ledger.Ledger, "audit", lambda self: replace(honest(self), faults=("account 7: cash -1",)))
    code, _, line = run(*SHORT, "--quiet", "--out", "two")
    assert (code, line.count("\n")) == (1, 1)
    assert "the audit failed: account 7: cash -1" in line
    assert json.loads(Path("two/manifest.json").read_text())["status"] == "audit failed"


def test_list_and_schema() -> None:
    code, out, _ = abm("list")
    assert code == 0
    assert "february-2026" in out
    assert "market_makers" in out
    listed = json.loads(abm("list", "--json")[1])
    assert {"name": "spot", "steps": 172_800}.items() <= next(
        s for s in listed["scenarios"] if s["name"] == "spot"
    ).items()
    keys = {key["key"]: key for key in json.loads(abm("schema", "traders.noise", "--json")[1])["keys"]}
    assert keys["accounts"] == {
        "key": "accounts",
        "type": "whole number",
        "default": "500",
        "bounds": ">= 0, <= 10,000,000",
        "description": "accounts",
    }
    for section in (
        "",
        "clock",
        "instruments",
        "instruments.btc-spot.fees",
        "instruments.rules",
        "traders",
        "etf",
        "traders.etf.flows",
    ):
        code, out, _ = abm("schema", *([section] if section else []))
        assert code == 0
        assert "meaning" in out


def test_every_key_says_what_it_means() -> None:
    from abm.agents import kinds
    from experiments.schema import describe

    own = [kind for kind, cls in kinds().items() if cls.__module__.startswith("abm.agents")]
    for section in ("clock", "recording", "compare", *(f"traders.{kind}" for kind in own)):
        for key in describe(section)[1]:
            assert key.description, f"{section}.{key.key}"


def test_help_is_quick_and_loads_no_simulator() -> None:
    code = "import sys; from experiments.cli import app; print([m for m in ('numpy', 'mesa', 'pandas', 'numba', 'abm.market') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "[]\n"
    bare = subprocess.run(
        [
            sys.executable,
            "-c",
            "import abm, sys; print([m for m in ('numpy', 'mesa', 'pandas', 'pydantic') if m in sys.modules])",
        ],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert bare.stdout == "[]\n"
