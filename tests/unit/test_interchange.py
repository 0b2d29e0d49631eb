"""Results in other forms: messages and events as tables, LOBSTER files that are replayed without a difference, candles, arrays."""

import sys
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import abm
from abm.agents.view import View
from abm.exchange.messages import MESSAGE, Flag, Kind, Records, TimeInForce
from abm.lobster.files import Book, Messages
from analysis.samples import read_candles
from experiments.cli import app
from experiments.replay.export import write_lobster
from experiments.replay.lobster import LobsterReport, replay_lobster
from tests.unit.small_cascade import PERP, SPOT, small_cascade
from tests.unit.walls import market as walls


@pytest.fixture(scope="module")
def market() -> abm.Market:
    """An hour with liquidations, icebergs, slid orders and expiries, every message kept."""
    value = {"accounts": 10, "demand": 2e7}
    traders = small_cascade().model_dump()["traders"] | {"value": value | {"kind": "value"}}
    clock = {"start": "2026-02-05T18:45Z", "end": "2026-02-05T19:45Z", "step": "1min"}
    made = abm.Market(small_cascade(traders=traders, clock=clock, recording={"interval": "5min", "orders": True}))
    made.run_for("1h")
    return made


@pytest.fixture(scope="module")
def result(market: abm.Market) -> abm.Result:
    return market.result()


def replayed(paths: tuple[Path, Path], tick: str) -> LobsterReport:
    book = Book(paths[1], Decimal(tick))
    return replay_lobster(Messages(paths[0], Decimal(tick)), book, book.levels, Decimal(tick))


def test_messages_and_events_tell_the_whole_log(result: abm.Result, tmp_path: Path) -> None:
    messages, events = result.messages, result.events
    assert messages["message"].is_monotonic_increasing and messages["time"].is_monotonic_increasing
    assert len(events) == result.summary["events"]
    counts = messages.loc[messages["status"] == "rejected", "reject"].value_counts()
    assert {name: count for name, count in counts.items() if count} == result.summary["rejects"]
    trades = result.trades
    entered = trades[(trades["aggressor"] != "auction") & (trades["taker_order"] > 0)]
    filled = messages.loc[messages["kind"].isin(["limit", "market"]), "filled"].sum()
    assert entered["quantity"].sum() == pytest.approx(filled)
    assert "mass_cancelled" in set(events["what"])
    result.save(tmp_path / "run")
    back = abm.read_result(tmp_path / "run")
    pd.testing.assert_frame_equal(back.messages, messages, check_dtype=False, check_categorical=False)
    assert len(back.events) == len(events)


@pytest.mark.parametrize(("name", "levels"), [(SPOT, 1), (PERP, 10)])
def test_lobster_files_of_a_run_are_replayed_without_a_difference(
    market: abm.Market, result: abm.Result, tmp_path: Path, name: str, levels: int
) -> None:
    paths = write_lobster(result, tmp_path, name, levels)
    report = replayed(paths, "0.1")
    assert report.holds
    assert report.mismatches_known == report.mismatches_unknown == 0
    assert report.unexplained == [] and report.strays == 0
    assert report.executions["hit the named order"] > 50
    depth = market.exchange.depth(market.exchange.index(name), levels)
    last = np.array(paths[1].read_text().splitlines()[-1].split(","), np.int64).reshape(levels, 4)
    assert last[:, 0].tolist() == (depth.ask_price.astype(np.int64) * 1000).tolist()
    assert last[:, 3].tolist() == depth.bid_quantity.tolist()


class Script(abm.Trader):
    """Sends what it was told, a message a step: kind, side, price in ticks, lots, order, and other fields."""

    lines: ClassVar[list[dict[str, int]]] = []

    def setup(self) -> None:
        self.every_step = True

    def decide(self, view: View) -> Records | None:
        if view.step >= len(self.lines):
            return None
        sent = np.zeros(1, MESSAGE)
        sent["owner"] = self.first
        for name, value in self.lines[view.step].items():
            sent[name] = value
        return sent


def scripted(rows: list[dict[str, int]]) -> abm.Market:
    made, around = walls({}, step="1s", recording={"interval": "1min", "orders": True})
    around[SPOT].size_of = {"buy": 0.0, "sell": 0.0}
    first = made.exchange.take_ids(100)
    Script.lines = [{**row, "order": row["order"] + first} if "order" in row else row for row in rows]
    Script(made, cash=1e9, coins=1e6)
    made.run_for(f"{len(rows) + 2}s")
    return made


def order(number: int, side: int, price: int, lots: int, **more: int) -> dict[str, int]:
    return {"kind": Kind.LIMIT, "order": number, "side": side, "price": price, "quantity": lots, **more}


def test_replaced_hidden_and_iceberg_orders_are_told_as_a_venue_does(tmp_path: Path) -> None:
    made = scripted(
        [
            order(1, 0, 7_310_000, 10),
            order(2, 0, 7_310_000, 10, display=4),
            order(3, 1, 7_310_100, 5, flags=Flag.HIDDEN),
            order(4, 1, 7_310_200, 20),
            order(5, 1, 7_310_000, 16, tif=TimeInForce.IOC),  # 10 of the first, 4 and 2 of the iceberg
            order(6, 0, 7_310_200, 6, tif=TimeInForce.IOC),  # 5 hidden, 1 shown
            {"kind": Kind.REPLACE, "order": 4, "price": 7_310_200, "quantity": 9},  # fewer: keeps its place
            {"kind": Kind.REPLACE, "order": 4, "price": 7_310_150, "quantity": 9},
            {"kind": Kind.REDUCE, "order": 4, "quantity": 3},
            order(7, 0, 7_310_200, 2, flags=Flag.POST_SLIDE),
            {"kind": Kind.CANCEL, "order": 4},
        ]
    )
    messages, book = write_lobster(made.result(), tmp_path, SPOT, 3)
    told = [tuple(map(int, line.split(",")[1:2] + line.split(",")[3:5])) for line in messages.read_text().splitlines()]
    assert told == [
        (1, 10, 731_000_000),
        (1, 4, 731_000_000),
        (1, 20, 731_020_000),
        (4, 10, 731_000_000),
        (4, 4, 731_000_000),
        (1, 4, 731_000_000),
        (4, 2, 731_000_000),
        (5, 5, 731_010_000),
        (4, 1, 731_020_000),
        (2, 10, 731_020_000),
        (3, 9, 731_020_000),
        (1, 9, 731_015_000),
        (2, 3, 731_015_000),
        (1, 2, 731_014_900),
        (3, 6, 731_015_000),
    ]
    assert replayed((messages, book), "0.01").holds
    depth = made.exchange.depth(0, 3)
    last = np.array(book.read_text().splitlines()[-1].split(","), np.int64).reshape(3, 4)
    assert last[:2, 2].tolist() == (depth.bid_price.astype(np.int64) * 100).tolist()
    assert last[:2, 3].tolist() == depth.bid_quantity.tolist() == [2, 2]


def test_a_pegged_order_cannot_be_told_of(tmp_path: Path) -> None:
    made = scripted([order(1, 0, 7_310_000, 10), {"kind": Kind.PEGGED, "order": 2, "side": 0, "quantity": 5}])
    with pytest.raises(ValueError, match="is pegged and moves without a message"):
        write_lobster(made.result(), tmp_path, SPOT)


def test_a_file_that_was_changed_is_found_out(result: abm.Result, tmp_path: Path) -> None:
    messages, book = write_lobster(result, tmp_path, SPOT, 5)
    rows = messages.read_text().splitlines()
    place = next(k for k, row in enumerate(rows) if row.split(",")[1] == "1" and k > 200)
    parts = rows[place].split(",")
    parts[3] = str(int(parts[3]) + 1)
    rows[place] = ",".join(parts)
    messages.write_text("\n".join(rows) + "\n")
    report = replayed((messages, book), "0.1")
    assert report.mismatches_known + report.mismatches_unknown + len(report.unexplained) > 0


def test_candles_are_those_of_the_trades(result: abm.Result) -> None:
    hours = result.candles("1h", SPOT)
    trades = result.trades
    trades = trades[trades["instrument"] == SPOT]
    by_hour = trades.groupby(trades["time"].dt.floor("1h"))
    assert len(hours) == 2
    assert hours["volume"].tolist() == pytest.approx(by_hour["quantity"].sum().tolist())
    assert hours["high"].tolist() == pytest.approx(by_hour["price"].max().tolist())
    assert hours["close"].tolist() == pytest.approx(by_hour["price"].last().tolist())
    assert hours["trades"].sum() == len(trades)
    assert list(result.candles(300)) == ["open", "high", "low", "close", "volume", "trades"]
    with pytest.raises(ValueError, match="not a whole number of bars of 300 s"):
        result.candles("7min")
    with pytest.raises(ValueError, match="doge is not traded here; there is btc-spot, btc-perp"):
        result.candles("5min", "doge")


def test_arrays_are_the_bars(result: abm.Result, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xarray")
    arrays = result.to_xarray()
    assert dict(arrays.sizes) == {"time": 12, "instrument": 2}
    mids = result.bars.loc[result.bars["instrument"] == PERP, "mid"]
    assert arrays["mid"].sel(instrument=PERP).to_numpy() == pytest.approx(mids.to_numpy())
    assert arrays.attrs["event_log_hash"] == result.summary["event_log_hash"]
    monkeypatch.setitem(sys.modules, "xarray", None)
    monkeypatch.setattr("abm.interchange.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="needs the package xarray"):
        result.to_xarray()


def test_the_command_writes_files_that_others_read(result: abm.Result, tmp_path: Path) -> None:
    result.save(tmp_path / "run")

    def export(*arguments: object) -> tuple[int, str]:
        answer = CliRunner().invoke(app, ["export", str(tmp_path / "run"), *map(str, arguments)])
        return answer.exit_code, answer.stderr if answer.exit_code else answer.stdout

    code, _ = export("--format", "candles", "--out", tmp_path / "c.csv", "--interval", "15min")
    assert code == 0
    assert read_candles(tmp_path / "c.csv")["close"].tolist() == pytest.approx(
        result.candles("15min")["close"].tolist()
    )
    code, printed = export("--format", "lobster", "--out", tmp_path / "lob", "--levels", 3)
    assert code == 0
    assert [Path(line).name for line in printed.split()] == [
        "btc-spot_2026-02-05_message_3.csv",
        "btc-spot_2026-02-05_orderbook_3.csv",
    ]
    code, line = export("--format", "candles", "--out", tmp_path / "c.xls")
    assert (code, "must end with .csv or .parquet" in line) == (2, True)
    code, line = export("--format", "lobster", "--out", tmp_path, "--instrument", "eth")
    assert (code, "eth is not traded here" in line) == (2, True)


def test_a_run_that_kept_no_messages_says_so_and_has_the_hash_it_always_had(tmp_path: Path) -> None:
    scenario = abm.load("first-hour", clock={"end": "2026-02-05T00:01Z"})
    result = abm.run(scenario)
    with pytest.raises(ValueError, match="kept no messages; set recording"):
        write_lobster(result, tmp_path)
    kept = abm.run(abm.load("first-hour", clock={"end": "2026-02-05T00:01Z"}, recording={"orders": True}))
    assert kept.summary["event_log_hash"] == result.summary["event_log_hash"]
    with pytest.raises(abm.ScenarioError, match=r"recording\.orders needs recording\.trades"):
        abm.load("first-hour", recording={"orders": True, "trades": False})
