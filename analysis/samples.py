"""What stylised facts are measured on: bars and trades of one instrument, from a run, from a file of candles, or from anywhere else."""

import logging
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from abm.record import Result
from abm.scenario import ScenarioError

_log = logging.getLogger(__name__)

INTERVAL = pd.Timedelta("5min")
"""Bars that are finer are put together to this; returns are those between their closes."""
DAY = pd.Timedelta("1D")
FEWEST = 200
"""Returns below which nothing is said at all."""
PARENT_PAUSE = pd.Timedelta("5min")
"""A taker's orders on one side that are no further apart than this are one parent order."""
PARENT_ORDERS = 5
"""Fewer orders than this are not a parent order."""

_TIMES = ("time", "timestamp", "date", "datetime")
_DEPTH = re.compile(r"(bid|ask)_depth_([\d.]+)bp")


@dataclass(frozen=True)
class Sample:
    """What the facts of one instrument are measured on."""

    name: str
    interval: pd.Timedelta
    moves: pd.DataFrame
    """One row for each return: time (UTC), ret (logarithmic, between closes) and, where known, volume, trades, signed_volume
    (of takers) and mid_move (logarithmic)."""
    quotes: pd.DataFrame
    """One row for each bar as it was recorded: spread_bps."""
    depth: pd.DataFrame
    """One row for each bar as it was recorded; a column for each distance from the mid (basis points): depth within it, both sides."""
    orders: pd.DataFrame
    """One row for each taker order, in time order: time, account, sign, quantity."""
    parents: pd.DataFrame
    """One row for each parent order: volume (signed) and mid_move (logarithmic)."""


def read_candles(path: str | Path, column: str = "") -> pd.DataFrame:
    """Read candles from CSV (also compressed) or Parquet: time, close and, where there, volume and trades.

    Args:
        path: File with a header; its column of times is called time, timestamp, date or datetime.
        column: Column that holds the closes, where it is not called close.

    Raises:
        ScenarioError: It is not such a file; one line says what is missing.
    """
    place = Path(path)
    if not place.is_file():
        raise ScenarioError(f"{place}: no such file")
    _log.info("reads candles from %s", place)
    try:
        table = pd.read_parquet(place) if place.suffix == ".parquet" else pd.read_csv(place)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ScenarioError(f"{place}: not a table of candles: {str(error).splitlines()[0]}") from None
    known = (*_TIMES, "close", "volume", "trades")
    table.columns = [name.lower() if name.lower() in known else name for name in map(str, table.columns)]
    time = next((name for name in _TIMES if name in table), None)
    if time is None:
        raise ScenarioError(f"{place}: no column of times; call it one of {', '.join(_TIMES)}")
    close, numbers = column or "close", table.select_dtypes("number").columns
    if close not in numbers:
        others = ", ".join(numbers) or "there is none"
        raise ScenarioError(f"{place}: no column {close} of numbers; choose one with --instrument: {others}")
    kept = table[[time, close, *(name for name in ("volume", "trades") if name in table and not column)]].dropna()
    try:
        kept[time] = pd.to_datetime(kept[time].astype(str), utc=True)
    except ValueError:
        raise ScenarioError(f"{place}: {time} {kept[time].iloc[0]} is not a time such as 2025-01-01 00:05:00") from None
    return kept.rename(columns={time: "time", close: "close"})


def run_sample(result: Result, instrument: str = "") -> Sample:
    """The sample of one instrument of a run, the first where none is named.

    Raises:
        ScenarioError: There is no such instrument, or too little of it.
    """
    names = list(result.summary["instruments"])
    chosen = instrument or names[0]
    if chosen not in names:
        raise ScenarioError(f"{result.summary['scenario']}: no instrument {chosen}; it has {', '.join(names)}")
    bars, trades = (table[table["instrument"] == chosen] for table in (result.bars, result.trades))
    return sample(bars, trades, f"{result.summary['scenario']}, seed {result.summary['seed']}, {chosen}")


def sample(
    bars: pd.DataFrame, trades: pd.DataFrame | None = None, name: str = "", interval: pd.Timedelta = INTERVAL
) -> Sample:
    """Put bars, and trades where there are any, together to what facts are measured on.

    Args:
        bars: time (of the start, UTC) and close; if known volume, trades, mid (at the end), spread_bps, and depth in columns such as
            bid_depth_25bp and ask_depth_25bp.
        trades: As in `Result.trades`: time, quantity, aggressor, taker_account, taker_order.
        name: What it is called.
        interval: Bars that are finer are put together to this.

    Raises:
        ScenarioError: A column is missing, prices or times are not such, or there are too few bars.
    """
    for column in ("time", "close"):
        if column not in bars:
            raise ScenarioError(f"{name or 'bars'}: no column {column}")
    steps = bars["time"].diff().iloc[1:]
    if not (bars["close"].gt(0).all() and steps.gt(pd.Timedelta(0)).all()):
        raise ScenarioError(f"{name or 'bars'}: closes must be above 0 and times must rise")
    width = spacing(bars["time"]) if len(steps) else interval
    interval = max(interval, width)
    if interval % width > pd.Timedelta(0):
        raise ScenarioError(f"{name or 'bars'}: bars of {width.total_seconds():g} s do not add up to {key(interval)}")
    moves = _moves(bars, trades, interval)
    if len(moves) < FEWEST:
        raise ScenarioError(f"{name or 'bars'}: {len(moves)} returns of {key(interval)}; {FEWEST} are needed")
    if not moves["ret"].any():
        raise ScenarioError(f"{name or 'bars'}: the price never moves")
    quotes = bars.filter(items=["spread_bps"]).dropna()
    orders = parents = pd.DataFrame()
    if trades is not None and len(trades):
        orders = taker_orders(trades)
        if "mid" in bars:
            parents = parent_orders(orders, pd.Series(bars["mid"].to_numpy(), bars["time"] + width))
    return Sample(name, interval, moves, quotes, _depth(bars), orders, parents)


def _depth(bars: pd.DataFrame) -> pd.DataFrame:
    within = {column: float(match[2]) for column in bars if (match := _DEPTH.fullmatch(str(column)))}
    return bars[list(within)].T.groupby(within).sum().T if within else pd.DataFrame()


def _moves(bars: pd.DataFrame, trades: pd.DataFrame | None, interval: pd.Timedelta) -> pd.DataFrame:
    """Returns between the closes of intervals, with what was traded in each; none over a gap within days."""
    how = {"close": "last", "mid": "last", "volume": "sum", "trades": "sum"}
    start = bars["time"].dt.floor(interval) if interval < DAY else bars["time"]
    wide = bars.groupby(start).agg({column: way for column, way in how.items() if column in bars})
    moves = pd.DataFrame({"ret": np.log(wide["close"]).diff()}, index=wide.index)
    for column in ("volume", "trades"):
        if column in wide:
            moves[column] = wide[column].astype(float)
    if "mid" in wide and trades is not None and len(trades):
        signed = trades["quantity"] * _signs(trades["aggressor"])
        moves["signed_volume"] = (
            signed.groupby(trades["time"].dt.floor(interval)).sum().reindex(wide.index, fill_value=0.0)
        )
        moves["mid_move"] = np.log(wide["mid"]).diff()
    whole = wide.index.to_series().diff() == interval if interval < DAY else slice(None)
    return moves[whole].dropna().rename_axis("time").reset_index()


def _signs(aggressor: pd.Series) -> "pd.Series[float]":
    """1 where buyers took, -1 where sellers did, 0 in an auction."""
    return (aggressor == "buy").astype(float) - (aggressor == "sell").astype(float)


def taker_orders(trades: pd.DataFrame) -> pd.DataFrame:
    """Orders that took liquidity, in time order: time, account, sign, quantity. Trades of one order count once, auctions not."""
    taken = trades[trades["aggressor"] != "auction"]
    number = taken["taker_order"].ne(taken["taker_order"].shift()).cumsum()
    return (
        taken.assign(sign=_signs(taken["aggressor"]))
        .groupby(number)
        .agg(
            time=("time", "first"),
            account=("taker_account", "first"),
            sign=("sign", "first"),
            quantity=("quantity", "sum"),
        )
    )


def parent_orders(orders: pd.DataFrame, mids: "pd.Series[float]") -> pd.DataFrame:
    """Parent orders, found from the orders of each account on one side: volume (signed) and mid_move (logarithmic).

    Only what they took is seen, not what rested. The move is from the last mid at or before the first order to the first
    mid at or after the last one; `mids` has the times as its index.
    """
    mine = orders.sort_values(["account", "time"], kind="stable")
    before = mine.shift()
    fresh = (mine["account"] != before["account"]) | (mine["sign"] != before["sign"])
    fresh |= mine["time"] - before["time"] > PARENT_PAUSE
    parents = mine.groupby(fresh.cumsum()).agg(
        first=("time", "first"),
        last=("time", "last"),
        sign=("sign", "first"),
        quantity=("quantity", "sum"),
        orders=("sign", "size"),
    )
    parents = parents[parents["orders"] >= PARENT_ORDERS].sort_values("first", kind="stable")
    start = mids.index.searchsorted(parents["first"], side="right") - 1
    end = mids.index.searchsorted(parents["last"], side="left")
    seen = (start >= 0) & (end < len(mids))
    logs = np.log(mids.to_numpy())
    return pd.DataFrame(
        {
            "volume": (parents["sign"] * parents["quantity"]).to_numpy()[seen],
            "mid_move": logs[end[seen]] - logs[start[seen]],
        }
    )


def spacing(time: "pd.Series[pd.Timestamp]") -> pd.Timedelta:
    """The usual time from one row to the next."""
    return pd.Timedelta(time.diff().median())


def key(interval: pd.Timedelta) -> str:
    """The name of an interval: 5min, 4h, 1d."""
    for unit, name in ((DAY, "d"), (pd.Timedelta("1h"), "h"), (pd.Timedelta("1min"), "min")):
        if interval % unit == pd.Timedelta(0):
            return f"{interval // unit}{name}"
    return f"{interval.total_seconds():g}s"
