"""`abm calibrate`: a known parameter found again, the same after any interruption and with workers, and one line where something is wrong."""

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

import analysis.compare
from abm.record import Result
from abm.scenario import ScenarioError, load
from experiments import calibrate_study, cli
from experiments.calibrate_spec import read_spec
from experiments.calibrate_study import Search
from experiments.ensemble import Ensemble, Outcome

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = """
clock: {start: 2026-02-05T00:00Z, end: 2026-02-05T00:10Z}
instruments:
  btc-spot: {tick: 0.01, lot: 0.0001, max_price: 250_000, reference_price: 75_000}
fundamentals:
  btc-spot: {volatility: 0.4}
traders:
  noise: {accounts: 50, cash: 10e6, coins: 125}
recording: {network: 5min}
inputs: {instruments.btc-spot.reference_price: "open"}
observations: seen.csv
"""
SEEN = """id,instrument,quantity,value,low,high,unit,from_utc,to_utc,measure,market,role,source,note
open,BTC,price,73100,72900,73300,USD,2026-02-05T00:00,2026-02-05T00:00,price,btc-spot,fitted,,
later,BTC,price,73200,72800,73600,USD,2026-02-05T00:01,2026-02-05T00:01,price,btc-spot,fitted,,
after,BTC,price,74000,73800,74200,USD,2026-02-05T00:05,2026-02-05T00:05,price,btc-spot,predicted,,
given,BTC,price,74000,73800,74200,USD,2026-02-05T00:01,2026-02-05T00:01,price,btc-spot,input,,
"""
SPEC: Mapping[str, Any] = {
    "scenario": "small.yaml",
    "ends": "2026-02-05T00:02Z",
    "vary": {
        "instruments.btc-spot.reference_price": {"low": 71_000, "high": 76_000, "about": "where it opens"},
        "volume": {"keys": ["traders.noise.volume_per_day"], "factor": True, "low": 0.5, "high": 2.0, "log": True},
    },
    "seeds": [1, 2],
    "trials": 6,
    "batch": 3,
}


def write(**changes: Any) -> None:
    Path("tiny.yaml").write_text(yaml.safe_dump({**SPEC, **changes}))


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a calibration, its scenario and its observations, in which the test is."""
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SCENARIO)
    Path("seen.csv").write_text(SEEN)
    write()
    return tmp_path


def abm(*arguments: str) -> tuple[int, str, str]:
    answer = CliRunner().invoke(cli.app, list(arguments))
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer.exit_code, answer.stdout, answer.stderr


def calibrate(name: str, *arguments: str) -> pd.DataFrame:
    """The trials of a calibration that is kept under a name."""
    code, out, err = abm("calibrate", "tiny.yaml", "--quiet", "--store", f"{name}.sqlite", "--out", name, *arguments)
    assert (code, out) == (0, ""), err
    return pd.read_csv(Path(name) / "trials.csv")


def test_a_known_parameter_is_found_again_and_one_without_effect_is_not_identified() -> None:
    write(trials=24)
    code, out, _ = abm("calibrate", "tiny.yaml")
    folder = Path("runs/calibrations/tiny")
    assert code == 0
    assert "identified" in out
    assert "not determined: +1.00 volume" in out
    assert "predicted" not in out
    assert {path.name for path in folder.iterdir()} == {"best.yaml", "trials.csv", "profiles.png", "result.json"}
    found = json.loads((folder / "result.json").read_text())
    assert [row["observation"] for row in found["targets"]] == ["open", "later"]
    assert all(row["inside"] for row in found["targets"])
    price, volume = found["parameters"]
    assert price["best"] == pytest.approx(73_100, abs=200)
    assert (price["before"], price["identified"]) == (75_000, True)
    assert price["interval"][0] < 73_100 < price["interval"][1]
    assert (volume["before"], volume["identified"]) == (1.0, False)
    trials = pd.read_csv(folder / "trials.csv")
    assert len(trials) == 24
    assert trials["open"].to_list() == pytest.approx(trials["instruments.btc-spot.reference_price"].to_list())
    first = trials.iloc[0]  # the scenario as it stands
    assert (first["instruments.btc-spot.reference_price"], first["volume"]) == (75_000, 1)
    assert first["loss"] == found["loss"]["before"]
    squares = (((trials["open"] - 73_100) / 200) ** 2, ((trials["later"] - 73_200) / 400) ** 2)
    assert trials["loss"].to_list() == pytest.approx(sum(x / (1 + x / 25) for x in squares).to_list())


def test_the_fitted_scenario_is_whole_and_says_what_is_fitted() -> None:
    trials = calibrate("one", "--no-curvature")
    best = trials.loc[trials["loss"].idxmin()]
    fitted = load("one/best.yaml")
    assert fitted.name == "small-fitted"
    assert fitted.clock == load("small.yaml").clock
    assert fitted.instruments["btc-spot"].reference_price == best["instruments.btc-spot.reference_price"]
    volume = load("small.yaml").traders["noise"].model_dump()["volume_per_day"]
    assert fitted.traders["noise"].model_dump()["volume_per_day"] == pytest.approx(volume * best["volume"])
    assert set(fitted.fitted) == {"instruments.btc-spot.reference_price", "traders.noise.volume_per_day"}
    assert fitted.fitted["traders.noise.volume_per_day"].startswith("open, later (calibration tiny, trial ")
    assert fitted.inputs == {}
    parameters = json.loads(Path("one/result.json").read_text())["parameters"]
    assert "identified" not in parameters[0]


def test_a_cut_run_is_the_beginning_of_the_whole_one() -> None:
    from abm import run

    cut, whole = (run(load("small.yaml", clock={"end": f"2026-02-05T00:0{end}Z"})) for end in (2, 4))
    early = whole.bars["time"] < cut.bars["time"].max() + pd.Timedelta("1min")
    pd.testing.assert_frame_equal(cut.bars, whole.bars[early].reset_index(drop=True))
    assert len(cut.trades) > 100
    pd.testing.assert_frame_equal(cut.trades, whole.trades.iloc[: len(cut.trades)])


def test_what_is_predicted_changes_nothing() -> None:
    before = calibrate("one", "--no-curvature")
    Path("seen.csv").write_text(SEEN.replace("74000,73800,74200", "99000,98000,99900"))
    pd.testing.assert_frame_equal(calibrate("two", "--no-curvature"), before)


def test_workers_and_a_kill_change_nothing(tiny: Path) -> None:
    straight = calibrate("one")
    command = ["calibrate", "tiny.yaml", "-q", "--store", "two.sqlite", "--out", "two", "--workers", "2"]
    started = subprocess.Popen(
        [sys.executable, "-m", "experiments.cli", *command], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    until = time.monotonic() + 60
    while _kept("two.runs.sqlite") < 3 and started.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert 3 <= _kept("two.runs.sqlite") < 20
    pd.testing.assert_frame_equal(calibrate("two"), straight)
    assert _kept("two.runs.sqlite") == _kept("one.runs.sqlite") == 20  # six trials and four of curvature at two seeds
    assert Path("two/result.json").read_bytes() == Path("one/result.json").read_bytes()


def _kept(store: str) -> int:
    if not Path(store).is_file():
        return 0
    base = sqlite3.connect(store)
    try:
        return int(base.execute("SELECT count(*) FROM runs").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        base.close()


def test_an_interruption_anywhere_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches of three are asked for and told; the search is stopped after so many calls, and goes on."""
    from optuna.trial import Trial

    problem = read_spec("tiny.yaml")
    with Ensemble(calibrate_study.MEASURE, store=Path("runs.sqlite")) as ensemble:
        straight = _searched(problem, "straight.sqlite", ensemble)
        for place, name, calls in (
            (Search, "_trial", 4),  # between two questions
            (Search, "_tell", 2),  # between two answers
            (Trial, "suggest_float", 3),  # within a question, of random trials
            (Trial, "suggest_float", 9),
            (Ensemble, "play", 1),  # when a batch has been asked for
        ):
            store = f"{name}{calls}.sqlite"
            with monkeypatch.context() as patch:
                patch.setattr(place, name, _stopped(getattr(place, name), calls))
                with pytest.raises(KeyboardInterrupt):
                    _searched(problem, store, ensemble)
            assert _searched(problem, store, ensemble) == straight, (name, calls)


def _stopped[**P, T](honest: Callable[P, T], calls: int) -> Callable[P, T]:
    """What it was, so often; then Ctrl-C."""
    left = calls

    def stopped(*args: P.args, **kwargs: P.kwargs) -> T:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return honest(*args, **kwargs)

    return stopped


def _searched(problem: Any, storage: str, ensemble: Ensemble) -> list[Any]:
    search = Search(problem, storage)
    try:
        return search.run(ensemble, silent=True)
    finally:
        search.close()


def test_two_commands_at_one_search_are_one_line() -> None:
    problem = read_spec("tiny.yaml")
    with Ensemble(calibrate_study.MEASURE, store=Path("runs.sqlite")) as ensemble:
        one, two = Search(problem, "one.sqlite"), Search(problem, "one.sqlite")
        asked = [one._trial(number) for number in range(3)]
        assert two.run(ensemble, silent=True) == one.run(ensemble, silent=True)
        assert asked[0] is not None
        with pytest.raises(ScenarioError, match=r"^one.sqlite: another command is searching for tiny; wait for it, or"):
            one._tell(asked[0], [Outcome("", 1, {}, 0.0, "none")])
        two._study.ask()
        with pytest.raises(ScenarioError, match="another command is searching for tiny"):
            one._trial(99)
        one.close()
        two.close()


def test_more_trials_go_on_from_those_there_are() -> None:
    write(trials=2, batch=2)
    calibrate("one", "--no-curvature")
    write(trials=4, batch=2)
    longer = calibrate("one", "--no-curvature")
    assert len(longer) == 4
    pd.testing.assert_frame_equal(calibrate("two", "--no-curvature"), longer)


def test_whole_numbers_stay_whole() -> None:
    write(vary={"traders.noise.accounts": {"low": 20, "high": 60}})
    trials = calibrate("one")
    assert trials["traders.noise.accounts"].dtype == int
    assert trials["traders.noise.accounts"].iloc[0] == 50
    assert yaml.safe_load(Path("one/best.yaml").read_text())["traders"]["noise"]["accounts"] in range(20, 61)


def test_a_run_that_fails_counts_as_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = analysis.compare.measured

    def measured(result: Result) -> dict[str, float]:
        if result.summary["seed"] == 2 and result.scenario["instruments"]["btc-spot"]["reference_price"] < 73_000:
            raise RuntimeError("too low")
        return honest(result)

    from experiments.one_run import measured_by

    measured_by.cache_clear()
    monkeypatch.setattr(analysis.compare, "measured", measured)
    try:
        code, out, _ = abm("calibrate", "tiny.yaml", "--no-curvature")
    finally:
        measured_by.cache_clear()
    assert code == 0
    trials = pd.read_csv("runs/calibrations/tiny/trials.csv")
    failed = trials["instruments.btc-spot.reference_price"] < 73_000
    assert 0 < failed.sum() < 6
    assert (trials["loss"] == 50).equals(failed)
    assert trials["error"].fillna("").eq("RuntimeError: too low").equals(failed)
    assert f"{failed.sum()} failed, the first: RuntimeError: too low" in out


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"targets": ["open", "after"]}, "targets: after is predicted, not fitted (seen.csv); leave it out"),
        ({"targets": ["given"]}, "targets: given is input, not fitted (seen.csv); leave it out"),
        (
            {"targets": ["opn"]},
            "targets: opn: no observation in seen.csv with a measure. Did you mean open?",
        ),
        ({"targets": ["open", "open"]}, "targets: open stands twice; give it once"),
        (
            {"ends": "2026-02-05T00:00:30Z"},
            "targets: later is of 2026-02-05T00:01 to 2026-02-05T00:01, which runs of 2026-02-05T00:00 to 2026-02-05T00:00 do not "
            "cover; leave it out, or change ends",
        ),
        (
            {"ends": "2026-02-06T00:00Z"},
            "ends: 2026-02-06T00:00Z is not within the run of small (clock.start to clock.end)",
        ),
        ({"trials": 10}, "trials: 10 is no multiple of batch; write 12"),
        ({"trails": 10}, "trails is not a key. Did you mean trials?"),
        ({"vary": {}}, "vary = {} Dictionary should have at least 1 item after validation, not 0"),
        (
            {"vary": {"traders.noise.coins": {"low": 3, "hi": 4}}},
            "vary.traders.noise.coins.high is missing, such as 2.0 (and 1 more)",
        ),
        ({"vary": {"traders.noise.coins": {"low": 3, "high": 2}}}, "vary.traders.noise.coins: low must be less than high"),
        ({"vary": {"traders.noise.colour": {"low": 3, "high": 4}}}, "vary: traders.noise.colour is not a key of the scenario (abm schema)"),
        (
            {"vary": {"traders.noise.kind": {"low": 3, "high": 4}}},
            "vary: traders.noise.kind is 'noise' and no number; vary a key that is one",
        ),
        (
            {"vary": {"traders.noise.accounts": {"low": 3.5, "high": 4}}},
            "vary: traders.noise.accounts: low and high must be whole numbers, as what stands there is",
        ),
        (
            {"vary": {"traders.noise.coins": {"low": -3, "high": 4}}},
            "small.yaml: traders.noise.coins = -3.0 should be greater than or equal to 0 (abm schema traders)",
        ),
        (
            {"vary": {"a": {"keys": ["traders.noise.coins"], "low": 1, "high": 2}, "traders.noise.coins": {"low": 1, "high": 2}}},
            "vary: traders.noise.coins is varied twice; leave it out of one",
        ),
        ({"scenario": "smal.yaml"}, "smal.yaml: no such file (abm list shows the scenarios that are kept)"),
        (
            {"set": {"traders.noise.acounts": 3}},
            "small.yaml: traders.noise.acounts is not a key. Did you mean traders.noise.accounts? (abm schema traders)",
        ),
        ({"set": {"observations": ""}}, "scenario: small names no observations to be fitted to"),
        ({"set": {"compare.open.role": "predicted", "compare.later.role": "input"}}, "targets: small has no observation whose role is fitted"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_before_anything_runs(changes: dict[str, Any], line: str) -> None:
    write(**changes)
    assert abm("calibrate", "tiny.yaml") == (2, "", f"tiny.yaml: {line}\n")
    assert not Path("runs").exists()


def test_bounds_and_markets_that_say_nothing_are_one_line() -> None:
    for wrong, line in (
        ("73100,,73300", "open has no two bounds that differ, so that its misfit has no scale; leave it out"),
        ("73100,73100,73100", "open has no two bounds that differ, so that its misfit has no scale; leave it out"),
    ):
        Path("seen.csv").write_text(SEEN.replace("73100,72900,73300", wrong))
        assert abm("calibrate", "tiny.yaml") == (2, "", f"tiny.yaml: targets: {line}\n")
    Path("seen.csv").write_text(SEEN.replace("price,btc-spot", "price,eth-spot", 1))
    line = "targets: open is about eth-spot, which small does not trade; leave it out"
    assert abm("calibrate", "tiny.yaml") == (2, "", f"tiny.yaml: {line}\n")
    Path("seen.csv").write_text(SEEN.replace("price,btc-spot", "hashprice,btc-spot", 1))
    line = "targets: no run says anything of open (its window or market); leave it out"
    assert abm("calibrate", "tiny.yaml", "-q") == (2, "", f"tiny: {line}\n")


def test_a_calibration_that_is_not_there_is_one_line() -> None:
    line = "tyny: no such calibration; give a name in configs/calibrations, or a file\n"
    assert abm("calibrate", "tyny") == (2, "", line)
    Path("list.yaml").write_text("- a\n")
    assert abm("calibrate", "list.yaml")[2] == "list.yaml: a calibration is a mapping of keys to values (abm schema)\n"


def test_another_calibration_in_the_same_store_is_refused_by_what_changed() -> None:
    calibrate("one", "--no-curvature")
    for changes, what in (
        ({"seeds": [1, 3]}, "seeds = [1, 2] and not [1, 3]"),
        ({"batch": 2}, "batch = 3 and not 2"),
        ({"set": {"traders.noise.coins": 120}}, "scenario.traders.noise.coins = 125.0 and not 120.0"),
        ({"targets": ["open"]}, "targets.later = [73200.0, 72800.0, 73600.0] and not None"),
        (
            {"vary": {**SPEC["vary"], "volume": {**SPEC["vary"]["volume"], "high": 3.0}}},
            "vary.volume.high = 2.0 and not 3.0",
        ),
    ):
        write(**changes)
        code, out, line = abm("calibrate", "tiny.yaml", "-q", "--store", "one.sqlite", "--out", "one")
        assert (code, out) == (2, "")
        assert line == f"one.sqlite: tiny was begun with {what}; go back to that, or name another --store\n"


def test_a_store_that_is_none_is_one_line(tiny: Path) -> None:
    calibrate("one", "--no-curvature")
    Path("words.sqlite").write_text("no store\n" * 100)
    Path("short.sqlite").write_bytes(Path("one.sqlite").read_bytes()[:50_000])
    for store, line in (
        ("words.sqlite", "file is not a database; remove it, or name another --store"),
        ("one.runs.sqlite", "is not a store of calibrations; name another --store"),
        ("short.sqlite", "malformed"),
        (
            "mysql://me:secret@nowhere/base",
            "store: mysql is no database for it; give a file, or postgresql://USER@HOST/DATABASE",
        ),
    ):
        code, out, err = abm("calibrate", "tiny.yaml", "-q", "--store", store, "--out", "other")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert line in err
    Path("full").mkdir()
    Path("full/mine").touch()
    code, _, err = abm("calibrate", "tiny.yaml", "--out", "full")
    assert (code, err) == (2, "full: is there already; choose another --out or remove it\n")


def test_a_full_disk_at_the_end_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import abm.record

    def full(path: Path, _content: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    command = ("calibrate", "tiny.yaml", "-q", "--no-curvature", "--out", "one")
    with monkeypatch.context() as patch:
        patch.setattr(abm.record, "write_json", full)
        code, _, err = globals()["abm"](*command)
    line = "one: [Errno 28] No space left on device: 'one/result.json'; the trials are kept, and the same command writes this again\n"
    assert (code, err) == (2, line)
    assert globals()["abm"](*command)[0] == 0


def test_control_c_says_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from experiments import ensemble

    with monkeypatch.context() as patch:
        patch.setattr(ensemble, "play_one", _stopped(ensemble.play_one, 3))
        code, _, err = abm("calibrate", "tiny.yaml", "-q")
    line = (
        "interrupted: 3 of 6 runs are kept in runs/calibrations/tiny.runs.sqlite; the same command goes on from there"
    )
    assert (code, err.strip()) == (130, line)
    with monkeypatch.context() as patch:
        patch.setattr(Search, "_same", _stopped(Search._same, 0))
        code, _, err = abm("calibrate", "tiny.yaml", "-q")
    line = "interrupted: what was played is kept in runs/calibrations/tiny.runs.sqlite; the same command goes on from there"
    assert (code, err.strip()) == (130, line)
