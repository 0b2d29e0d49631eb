"""Tables, the run folder that appears whole or not at all, and the hash of the event log."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import abm
from abm.exchange.messages import OUTCOME, TRADE
from abm.record import FORMAT, DamagedRun, whole_folder
from abm.recorder import LogHash
from analysis.attribution import attribution

COIN = "btc-spot"
OLDER = Path(__file__).with_name("run_folders")


@pytest.fixture(scope="module")
def result() -> abm.Result:
    return abm.run(abm.load("first-hour", clock={"end": "2026-02-05T00:10Z"}))


def test_bars_flows_and_trades_tell_the_same_story(result: abm.Result) -> None:
    bars, trades, flows = result.bars, result.trades, result.flows
    assert len(bars) == 10
    assert str(bars["time"].iloc[0]) == "2026-02-05 00:00:00+00:00"
    assert bars["volume"].sum() == pytest.approx(trades["quantity"].sum())
    assert bars["trades"].sum() == len(trades) == result.summary["trades"]
    by_minute = trades.groupby(trades["time"].dt.floor("1min"))["price"]
    assert bars["high"].tolist() == pytest.approx(by_minute.max().tolist())
    assert bars["low"].tolist() == pytest.approx(by_minute.min().tolist())
    assert bars["close"].tolist() == pytest.approx(by_minute.last().tolist())
    assert (bars["low"] <= bars[["open", "close"]].min(axis=1)).all()
    for role in ("taker", "maker"):
        mine = flows[flows["role"] == role]
        assert mine["volume"].sum() == pytest.approx(bars["volume"].sum())
        assert mine["notional"].sum() == pytest.approx((trades["price"] * trades["quantity"]).sum())
        by_reason = trades.groupby(f"{role}_reason", observed=True)["quantity"].sum()
        assert mine.groupby("reason")["volume"].sum().to_dict() == pytest.approx(by_reason.to_dict())


def test_trades_name_those_who_traded(result: abm.Result) -> None:
    trades = result.trades
    assert trades["time"].is_monotonic_increasing
    for side in ("taker", "maker"):
        owners = result.accounts.set_index("account")["trader"]
        assert (trades[side].astype(str).to_numpy() == owners.loc[trades[f"{side}_account"]].to_numpy()).all()
    assert set(trades.loc[trades["maker_reason"] == "market_making", "maker"]) == {"market_makers"}


def test_accounts_start_and_end_with_the_same_coins_in_all(result: abm.Result) -> None:
    accounts = result.accounts
    blocks = result.summary["credited"].get("block reward", {}).get(COIN, 0) * 0.0001
    assert accounts[f"{COIN}_end"].sum() == pytest.approx(accounts[f"{COIN}_start"].sum() + blocks)
    later = sum(e["cash"] for why, e in result.summary["credited"].items() if why not in ("opening", "insurance fund"))
    fees = accounts["cash_start"].sum() + later / 1e6 - accounts["cash_end"].sum()
    assert fees == pytest.approx(result.audit.fees / 1e6, rel=1e-6)
    assert fees > 0


def test_a_result_is_read_back_as_it_was_saved(result: abm.Result, tmp_path: Path) -> None:
    result.save(tmp_path / "run", {"note": "mine"})
    back = abm.read_result(tmp_path / "run")
    assert back.summary == json.loads(json.dumps(result.summary))
    assert back.audit == result.audit
    assert back.scenario == result.scenario
    for name in ("bars", "flows", "accounts"):
        pd.testing.assert_frame_equal(getattr(back, name), getattr(result, name), check_dtype=False)
    assert len(back.trades) == len(result.trades)
    assert back.trades["price"].sum() == result.trades["price"].sum()
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["note"] == "mine"
    assert manifest["event_log_hash"] == result.summary["event_log_hash"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_a_folder_without_manifest_and_one_of_another_format_are_refused(result: abm.Result, tmp_path: Path) -> None:
    result.save(tmp_path / "run")
    manifest = tmp_path / "run" / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"format": 0}))
    with pytest.raises(ValueError, match="format 0 cannot be read"):
        abm.read_result(tmp_path / "run")
    manifest.unlink()
    with pytest.raises(FileNotFoundError, match="not a whole one"):
        abm.read_result(tmp_path / "run")


@pytest.mark.parametrize("name", ["summary.json", "scenario.json", "bars.parquet"])
def test_a_file_that_is_cut_short_or_missing_is_named(result: abm.Result, tmp_path: Path, name: str) -> None:
    result.save(tmp_path / "run")
    path = tmp_path / "run" / name
    os.truncate(path, 50)
    with pytest.raises(DamagedRun, match=rf"{name}: damaged.*run the scenario again"):
        abm.read_result(tmp_path / "run")
    path.unlink()
    with pytest.raises(DamagedRun, match=rf"{name}: is missing"):
        abm.read_result(tmp_path / "run")


def test_trades_that_are_cut_short_are_named_when_they_are_asked_for(result: abm.Result, tmp_path: Path) -> None:
    result.save(tmp_path / "run")
    os.truncate(tmp_path / "run" / "trades.parquet", 50)
    back = abm.read_result(tmp_path / "run")
    with pytest.raises(DamagedRun, match=r"trades.parquet: damaged"):
        _ = back.trades


@pytest.mark.parametrize(
    ("format", "lacks"),
    [
        (1, "what was liquidated, who is linked to whom, and marks"),
        (2, "who is linked to whom, and marks"),
        (3, "gauges, marks, open interest and funding"),
    ],
)
def test_a_folder_that_an_older_version_wrote_says_what_it_lacks(format: int, lacks: str) -> None:
    folder = OLDER / f"format-{format}"
    with pytest.raises(ValueError, match="cannot be read") as error:
        abm.read_result(folder)
    told = f"{folder}: format {format} cannot be read, only 4; run the scenario again. It lacks {lacks}."
    assert str(error.value) == told


def test_a_folder_that_was_written_before_moves_were_kept_is_read() -> None:
    folder = OLDER / "format-4"
    back = abm.read_result(folder)
    assert not (folder / "moves.parquet").exists() and back.moves.empty
    assert back.audit.passed
    assert back.summary["event_log_hash"] == json.loads((folder / "manifest.json").read_text())["event_log_hash"]
    assert len(back.trades) == back.summary["trades"] == back.bars["trades"].sum() > 0
    assert back.candles("1min", COIN)["volume"].sum() == pytest.approx(back.trades["quantity"].sum())
    assert set(back.accounts["trader"]) == {"market_makers", "noise"}
    assert attribution(back, COIN).hours.empty
    with pytest.raises(ValueError, match="kept no messages"):
        _ = back.messages


def test_every_older_format_has_a_folder() -> None:
    kept = {json.loads(file.read_text())["format"] for file in OLDER.glob("*/manifest.json")}
    assert kept == set(range(1, FORMAT + 1))


def test_an_interrupted_folder_never_appears(tmp_path: Path) -> None:
    def write(failure: BaseException) -> None:
        with whole_folder(tmp_path / "run") as place:
            (place / "bars.parquet").write_text("half")
            assert not (tmp_path / "run").exists()
            raise failure

    for failure in (KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")):
        with pytest.raises(type(failure)):
            write(failure)
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is there already"), whole_folder(tmp_path / "run"):
        pass
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_the_hash_does_not_depend_on_how_the_log_is_cut_nor_on_padding() -> None:
    rng = np.random.default_rng(1)

    def trades(fill: int) -> np.ndarray:
        raw = np.full(20 * TRADE.itemsize, fill, np.uint8).view(TRADE)
        for name in TRADE.names or ():
            raw[name] = values[name]
        return raw

    values = {name: rng.integers(0, 100, 20) for name in TRADE.names or ()}
    whole, pieces = LogHash(), LogHash()
    whole.update("trade", trades(0))
    for part in np.array_split(trades(255), 7):
        pieces.update("trade", part)
    assert whole.hexdigest() == pieces.hexdigest()
    pieces.update("outcome", np.zeros(1, OUTCOME))
    assert whole.hexdigest() != pieces.hexdigest()
    values["price"][3] += 1
    changed = LogHash()
    changed.update("trade", trades(0))
    assert whole.hexdigest() != changed.hexdigest()


def test_trades_need_not_be_kept() -> None:
    short = {"clock": {"end": "2026-02-05T00:02Z"}}
    kept, left = (
        abm.run(abm.load("first-hour", **short)),
        abm.run(abm.load("first-hour", **short, recording={"trades": False})),
    )
    assert len(left.trades) == 0
    assert len(kept.trades) == left.summary["trades"] > 0
    assert left.summary["event_log_hash"] == kept.summary["event_log_hash"]
