"""What a run left behind: the tables in memory, and the folder they are kept in. `abm.recorder` makes them.

A folder is written beside its place under another name and renamed at the end, its manifest last: a folder that carries a manifest is
whole.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from abm.clearing.ledger import Audit
from abm.contagion.chain import Forest, causes, stages
from abm.contagion.graph import Network, from_tables

_log = logging.getLogger(__name__)

FORMAT = 4
"""Version of the layout of a run folder."""
_LACKS = {
    1: "what was liquidated, who is linked to whom, and marks",
    2: "who is linked to whom, and marks",
    3: "gauges, marks, open interest and funding",
}
"""What folders of older formats lack, which nothing can be computed of afterwards."""

LOST = ("liquidated", "taken_over", "deleveraged")
"""What of `liquidations` takes a position from an account: it is sold into the book, the fund takes it over, or others are deleveraged for it."""

TABLES = ("bars", "flows", "moves", "gauges", "accounts", "liquidations", "network", "nodes", "trades")


@dataclass(frozen=True)
class Result:
    """What a run left behind, as tables in the units people use (times UTC, prices in currency, quantities in coins or shares)."""

    summary: dict[str, Any]
    """Numbers about the whole run, `event_log_hash` among them."""
    audit: Audit
    """Whether cash and coins were conserved."""
    scenario: dict[str, Any]
    """The scenario that was run, as plain values."""
    bars: pd.DataFrame
    """One row for each interval and instrument: open, high, low, close, volume, trades, and mid, spread and depth at its end.

    Of instruments with margin also the mark, the open interest (coins) and the funding rate of one payment as it would be by then.
    """
    flows: pd.DataFrame
    """Volume by interval, instrument and reason, once as taker and once as maker."""
    moves: pd.DataFrame
    """What moved the mids: one row for each hour (UTC), instrument, trader and reason, once for `trade` and once for `quote`; `change` in currency.

    A change belongs to the order, withdrawal or liquidation that made it; the exchange's own (auctions, halts) have no trader.
    """
    gauges: pd.DataFrame
    """What traders say of themselves at the end of each interval (`Population.gauges`): time, trader, gauge, value."""
    liquidations: pd.DataFrame
    """One row for each thing the clearing house did to an account: liquidated, position taken over, deleveraged, default paid."""
    network: pd.DataFrame
    """Edges of the contagion network at the times at which it was exported: time, source, target, channel, weight, and lots of exposures."""
    nodes: pd.DataFrame
    """Its nodes: time, node, kind, and of holders trader, cash and equity."""
    _accounts: Callable[[], Iterator[pd.DataFrame]] = field(repr=False)
    _trades: Callable[[], Iterator[pd.DataFrame]] = field(repr=False)
    _orders: Mapping[str, Callable[[], Iterator[pd.DataFrame]]] = field(repr=False, default_factory=dict)
    """Messages and events, where they were kept."""

    def graph(self, when: str | datetime | None = None) -> Network:
        """The contagion network as it was at the last export until a moment (UTC); the last of all where none is given.

        Raises:
            ValueError: There was no export until then, or it is no moment.
        """
        times = self.nodes["time"]
        try:
            moment = pd.Timestamp.max if when is None else pd.Timestamp(when)
        except ValueError:
            raise ValueError(f"{when!r} is not a moment; write one such as 2026-02-05T12:00") from None
        moment = moment.tz_localize(None) if moment.tzinfo is None else moment.tz_convert("UTC").tz_localize(None)
        known = times[times.dt.tz_localize(None) <= moment]
        if known.empty:
            raise ValueError(f"no network until {when}: the first is of {times.min():%Y-%m-%dT%H:%M}")
        edges, nodes = (t[t["time"] == known.max()].drop(columns="time") for t in (self.network, self.nodes))
        return from_tables(edges, nodes)

    def stages(self, asset: str | None = None, calm: str = "1d") -> pd.DataFrame:
        """In what order the stages of a cascade set in; see `abm.contagion.chain.stages`.

        Args:
            asset: The first asset; that of the scenario's first instrument where none is given.
            calm: The first part of the run, beside which depth is low.
        """
        first = next(iter(self.scenario["instruments"])).partition("-")[0]
        return stages(self.bars, self.flows, asset or first, calm)

    def causes(self) -> Forest:
        """Which liquidation set off which, across instruments; see `abm.contagion.chain`, which also has its `branches`."""
        return causes(self.liquidations)

    @property
    def accounts(self) -> pd.DataFrame:
        """One row for each account: whose it is, what it started with, what it ended with; made, or read, when it is asked for."""
        return pd.concat(self._accounts(), ignore_index=True)

    @property
    def trades(self) -> pd.DataFrame:
        """One row for each trade; made, or read, when it is asked for."""
        return pd.concat(self._trades(), ignore_index=True)

    @property
    def messages(self) -> pd.DataFrame:
        """One row for each message, in the order in which they were processed, with what became of it: what it asked for; status, reject and filled.

        Raises:
            ValueError: The run kept none.
        """
        return self._kept("messages")

    @property
    def events(self) -> pd.DataFrame:
        """One row for what happened to an order other than by a message of its owner, or to an instrument; `message` is the one that set it off.

        Raises:
            ValueError: The run kept none.
        """
        return self._kept("events")

    def _kept(self, name: str) -> pd.DataFrame:
        if name not in self._orders:
            raise ValueError(
                f"{self.summary['scenario']}: the run kept no {name}; set recording.orders: true and run it again"
            )
        return pd.concat(self._orders[name](), ignore_index=True)

    def candles(self, interval: str | float, instrument: str = "") -> pd.DataFrame:
        """Open, high, low, close, volume and trades of an instrument; see `abm.interchange.candles`."""
        from abm.interchange import candles

        return candles(self, interval, instrument)

    def to_xarray(self) -> Any:
        """The bars as an `xarray.Dataset`: one array for each column, by time and instrument; see `abm.interchange.dataset`."""
        from abm.interchange import dataset

        return dataset(self)

    def write(self, folder: Path) -> None:
        """Write the tables, the summary and the scenario into a folder that exists. `save` does this and more."""
        for name in (*TABLES, *self._orders):
            lazy = {"trades": self._trades, "accounts": self._accounts, **self._orders}.get(name)
            pieces = lazy() if lazy else iter([getattr(self, name)])
            _write_table(folder / f"{name}.parquet", pieces)
        write_json(folder / "summary.json", self.summary | {"audit": self.audit.to_dict()})
        write_json(folder / "scenario.json", self.scenario)

    def save(self, folder: str | Path, manifest: Mapping[str, Any] | None = None) -> None:
        """Write everything into a new folder, which appears only when it is whole.

        Args:
            folder: Where; must not exist, or be empty.
            manifest: Further lines for `manifest.json`.

        Raises:
            OSError: The folder is there already, or cannot be written.
        """
        with whole_folder(Path(folder)) as place:
            self.write(place)
            write_json(place / "manifest.json", self.manifest() | dict(manifest or {}))

    def manifest(self) -> dict[str, Any]:
        """What identifies this run: scenario, its hash, seed, event-log hash."""
        keys = ("scenario", "scenario_hash", "seed", "event_log_hash")
        return {"format": FORMAT, **{key: self.summary[key] for key in keys}, "audit_passed": self.audit.passed}


class DamagedRun(ValueError):
    """A run folder of which a file is missing or cut short."""


_MEND = "copy the folder again, or run the scenario again"


def read_result(folder: str | Path) -> Result:
    """Read a run folder.

    Raises:
        FileNotFoundError: There is no whole run folder there.
        DamagedRun: One of its files cannot be read; tables of accounts and trades say so when they are asked for.
        ValueError: It was written in another format; the text says what such a folder lacks. What came later and has an empty table in its
            place (`moves`) is no reason to refuse one.
    """
    place = Path(folder)
    if not (place / "manifest.json").is_file():
        raise FileNotFoundError(f"{place}: not a run folder, or not a whole one (no manifest.json)")
    manifest = _read_json(place / "manifest.json")
    if (found := manifest.get("format")) != FORMAT:
        lacks = f" It lacks {_LACKS[found]}." if found in _LACKS else ""
        raise ValueError(f"{place}: format {found} cannot be read, only {FORMAT}; run the scenario again.{lacks}")
    _log.info("reads the run in %s", place)
    summary = _read_json(place / "summary.json")
    audit = summary.pop("audit")
    return Result(
        summary=summary,
        audit=Audit.from_dict(audit),
        scenario=_read_json(place / "scenario.json"),
        bars=_read_table(place / "bars.parquet"),
        flows=_read_table(place / "flows.parquet"),
        moves=_read_moves(place / "moves.parquet"),
        gauges=_read_table(place / "gauges.parquet"),
        liquidations=_read_table(place / "liquidations.parquet"),
        network=_read_table(place / "network.parquet"),
        nodes=_read_table(place / "nodes.parquet"),
        _accounts=partial(_read_whole, place / "accounts.parquet"),
        _trades=partial(_read_whole, place / "trades.parquet"),
        _orders={
            name: partial(_read_whole, place / f"{name}.parquet")
            for name in ("messages", "events")
            if (place / f"{name}.parquet").is_file()
        },
    )


def _read_table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise DamagedRun(f"{path}: is missing; {_MEND}") from None
    except pa.ArrowInvalid:
        raise DamagedRun(f"{path}: damaged, not a whole Parquet file; {_MEND}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DamagedRun(f"{path}: is missing; {_MEND}") from None
    except ValueError as error:
        raise DamagedRun(f"{path}: damaged, {error}; {_MEND}") from None
    return content


def _read_whole(path: Path) -> Iterator[pd.DataFrame]:
    """A table as one piece, read when it is asked for."""
    yield _read_table(path)


def _read_moves(path: Path) -> pd.DataFrame:
    """The moves of a run; none where its folder is older than they are."""
    if path.is_file():
        return _read_table(path)
    empty = pd.DataFrame(columns=["time", "instrument", "trader", "reason", "by", "change"])
    return empty.astype({"time": "datetime64[ns, UTC]", "change": float})


def _write_table(path: Path, pieces: Iterator[pd.DataFrame]) -> None:
    """Write a table that comes in pieces, of which there is at least one."""
    first = pa.Table.from_pandas(next(pieces), preserve_index=False)
    with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for piece in pieces:
            writer.write_table(pa.Table.from_pandas(piece, first.schema, preserve_index=False))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as JSON, readable by people."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder that appears under its name only if the block ends well; until then it is a hidden sibling.

    Raises:
        FileExistsError: Something is there already.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(f"{folder}: is there already; choose another place or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = folder.parent / f".{folder.name}.{os.getpid()}.partial"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        yield place
        place.replace(folder)
        _log.info("kept %s", folder)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
