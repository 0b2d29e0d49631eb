"""The replayer: recorded orders reach the book at their recorded times, and a table that is wrong is refused in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import abm
from abm.agents.replayer import Replayer, ReplayerConfig
from abm.exchange.messages import Kind, Side
from abm.scenario import ScenarioError
from tests.unit.walls import market, only

COIN = "btc-spot"
FLOW = {
    "time": [0.25, 1.5, 1.75, 2.0, 30.0, 40.0],
    "side": ["buy", "sell", "buy", "sell", None, "sell"],
    "kind": ["limit", "limit", "market", "limit", "cancel", "limit"],
    "price": [73_090.0, 73_095.0, None, 73_200.009, None, 73_300.0],
    "quantity": [2.0, 1.0, 0.5, 3.0, None, 0.00001],
    "order": ["a", "b", None, "c", None, "d"],
    "cancel": [None, None, None, None, "c", None],
}


def replayed(path: Path, wall: float | None = None, step: str = "1s", **settings: Any) -> abm.Market:
    """A market of recorded orders alone, or of these between walls around a price."""
    made, around = market({"replayer": {"path": str(path), **settings}}, step=step)
    if wall is None:
        around[COIN].size_of = {"buy": 0.0, "sell": 0.0}
    else:
        around[COIN].price = wall
    return made


def table(folder: Path, name: str = "flow.csv", **columns: Any) -> Path:
    frame = pd.DataFrame(FLOW | columns)
    path = folder / name
    if ".parquet" in name:
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


def own_messages(made: abm.Market, duration: str) -> Any:
    """What the replayer's account had on the tapes."""
    row, seen, match = only(made, Replayer).first, [], made.exchange.match

    def watch(tape: Any) -> Any:
        seen.append(tape[tape["owner"] == row].copy())
        return match(tape)

    made.exchange.match = watch  # type: ignore[method-assign]
    made.run_for(duration)
    return np.concatenate(seen)


@pytest.mark.parametrize("name", ["flow.csv", "flow.csv.gz", "flow.parquet"])
def test_orders_come_as_they_were_recorded(tmp_path: Path, name: str) -> None:
    sent = own_messages(replayed(table(tmp_path, name)), "1min")
    assert (sent["time"] / 1e9).tolist() == FLOW["time"][:5]  # the last is less than a lot
    assert sent["kind"].tolist() == [Kind.LIMIT, Kind.LIMIT, Kind.MARKET, Kind.LIMIT, Kind.CANCEL]
    assert sent["side"][:4].tolist() == [Side.BUY, Side.SELL, Side.BUY, Side.SELL]
    assert (sent["price"][[0, 1, 3]] * 0.01).tolist() == pytest.approx([73_090.0, 73_095.0, 73_200.01])
    assert (sent["quantity"][:4] * 0.0001).tolist() == pytest.approx([2.0, 1.0, 0.5, 3.0])
    assert sent["order"][4] == sent["order"][3]


def test_they_trade_with_each_other_and_with_others(tmp_path: Path) -> None:
    made = replayed(table(tmp_path))
    made.run_for("20s")
    row = only(made, Replayer).first
    resting = made.exchange.orders_of(row)
    assert resting["quantity"].tolist() == [20_000, 5_000, 30_000]
    made.run_for("20s")
    assert made.exchange.orders_of(row)["quantity"].tolist() == [20_000, 5_000]
    trades = made.result().trades
    assert trades["quantity"].tolist() == [0.5]
    assert trades["price"].tolist() == [73_095.0]
    assert set(trades["taker_reason"]) == {"replay"}
    between = replayed(table(tmp_path), wall=73_200.0)
    between.run_for("1min")
    trades = between.result().trades
    assert trades["quantity"].tolist() == [1.0, 0.5]
    assert trades["price"].tolist() == pytest.approx([73_192.68, 73_207.32])
    assert between.result().audit.passed


def test_times_may_be_moments_and_what_was_before_the_run_is_left_out(tmp_path: Path) -> None:
    start = pd.Timestamp("2026-02-05T00:00Z")
    moments = [start + pd.Timedelta(seconds=s) for s in (-1, 1.5, 2, 3, 4, 5)]
    for name in ("flow.csv", "flow.parquet"):
        sent = own_messages(replayed(table(tmp_path, name, time=moments)), "1min")
        assert (sent["time"] / 1e9).tolist() == [1.5, 2.0, 3.0, 4.0]


def test_orders_are_cut_to_its_means_and_keep_their_times(tmp_path: Path) -> None:
    sent = own_messages(replayed(table(tmp_path), coins=0.0, cash=80_000.0), "1min")
    assert (sent["quantity"][sent["kind"] == Kind.LIMIT] * 0.0001).tolist() == pytest.approx([1.0945])
    assert sent["time"][sent["kind"] == Kind.CANCEL].tolist() == [30_000_000_000]
    assert sent["time"][0] == 250_000_000


def test_the_step_does_not_matter(tmp_path: Path) -> None:
    trades = []
    for step in ("1s", "10s", "60s"):
        made = replayed(table(tmp_path), step=step)
        made.run_for("1min")
        trades.append(made.result().trades[["time", "price", "quantity"]])
    assert len(trades[0]) == 1
    pd.testing.assert_frame_equal(trades[0], trades[1])
    pd.testing.assert_frame_equal(trades[0], trades[2])


def test_a_relative_path_is_beside_the_scenario(tmp_path: Path) -> None:
    config = ReplayerConfig.model_validate({"path": "flow.csv"}, context={"folder": tmp_path})
    assert config.files == {"path": tmp_path / "flow.csv"}
    assert ReplayerConfig(path="/elsewhere/flow.csv").files == {"path": Path("/elsewhere/flow.csv")}
    assert "folder" not in str(config.model_dump())


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"kind": ["limit", "limt", "market", "limit", "cancel", "limit"]}, "row 2: kind must be one of limit, market"),
        ({"side": ["buy", "sell", "buy", None, None, "sell"]}, "row 4: side must be one of buy, sell"),
        ({"time": [0.25, 1.5, 1.25, 2.0, 30.0, 40.0]}, "row 3: time is before"),
        ({"time": [0.25, 1.5, None, 2.0, 30.0, 40.0]}, "row 3: time is missing"),
        ({"time": ["a", "b", "c", "d", "e", "f"]}, "row 1: time is neither"),
        ({"price": [73_090.0, None, None, 73_200.0, None, 73_300.0]}, "row 2: price is not between"),
        ({"price": ["much", 1, None, 2, None, 3]}, "row 1: price is not between"),
        ({"quantity": [2.0, 0.0, 0.5, 3.0, None, 1.0]}, "row 2: quantity is not above 0"),
        ({"cancel": [None, None, None, None, "z", None]}, "row 5: cancel is not the id of an order above"),
        ({"cancel": [None, None, None, None, "d", None]}, "row 5: cancel is not the id of an order above"),
        ({"order": ["a", "b", None, "b", None, "d"]}, "row 4: order has the id of an earlier one"),
    ],
)
def test_a_wrong_row_is_named_in_one_line(tmp_path: Path, columns: dict[str, Any], says: str) -> None:
    path = table(tmp_path, **columns)
    with pytest.raises(ScenarioError, match=says) as error:
        replayed(path)
    assert str(error.value).startswith(f"walls: traders.replayer.path: {path}: ")
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_table_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    (tmp_path / "other.csv").write_text("time,price\n1,2\n")
    (tmp_path / "ids.csv").write_text("time,side,kind,price,quantity\n1,,cancel,,\n")
    for name, says in (
        ("missing.csv", "no such file"),
        ("empty.csv", "empty.csv: "),
        ("cut.parquet", "cut.parquet: "),
        ("flow.txt", r"write a \.parquet or \.csv file"),
        ("other.csv", "no column 'side'; there are time, price"),
        ("ids.csv", "there are cancels, and no column 'order'"),
    ):
        with pytest.raises(ScenarioError, match=says) as error:
            replayed(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_table_without_rows_sends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "none.csv"
    path.write_text("time,side,kind,price,quantity\n")
    assert len(own_messages(replayed(path), "10s")) == 0
