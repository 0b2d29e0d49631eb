"""The recorder: it watches a market and makes the tables of its `Result`. It changes nothing."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from numba import njit

from abm.contagion.graph import to_tables
from abm.exchange.description import MONEY_UNITS
from abm.exchange.messages import EVENT, LIQUIDATION, OUTCOME, TRADE, Forced, Reason, Records, Reject, Side, join
from abm.moves import Moves
from abm.order_log import OrderLog
from abm.record import Result
from abm.rows import Rows
from abm.spool import Spool

if TYPE_CHECKING:
    from abm.agents.base import Population
    from abm.market import Market

_REASONS = [reason.name.lower() for reason in Reason]
_SIDES = [side.name.lower() for side in Side]
_ROLES = ["taker", "maker"]
_FORCED = [what.name.lower() for what in Forced]
_PIECE = 1 << 17
"""Accounts in a piece of their table."""

_LOG = {"trade": TRADE, "outcome": OUTCOME, "event": EVENT, "liquidation": LIQUIDATION}


_FLOW = np.dtype(
    [
        ("time", np.int64),
        ("instrument", np.int16),
        ("role", np.int8),
        ("reason", np.int8),
        ("volume", float),
        ("notional", float),
    ]
)
_GAUGE = np.dtype([("time", np.int64), ("gauge", np.int32), ("value", float)])

BAR = np.dtype([(name, np.int64) for name in ("open", "high", "low", "close", "lots", "trades")])
"""What trades of one instrument came to; prices in ticks."""


@njit(cache=True)
def sum_trades(trades: Records, bars: Records, flows: npt.NDArray[np.float64]) -> None:
    """Sum up trades by instrument.

    Args:
        trades: `TRADE` records in the order in which they happened.
        bars: Zeros, one `BAR` for each instrument.
        flows: Zeros, instruments x (taker, maker) x reasons x (lots, lots times ticks).
    """
    for trade in trades:
        bar, price, lots = bars[trade.instrument], np.int64(trade.price), trade.quantity
        if bar.trades == 0:
            bar.open = bar.high = bar.low = price
        bar.high, bar.low, bar.close = max(bar.high, price), min(bar.low, price), price
        bar.lots += lots
        bar.trades += 1
        for role in range(2):
            flow = flows[trade.instrument, role, trade.taker_reason if role == 0 else trade.maker_reason]
            flow[0] += lots
            flow[1] += lots * float(price)


class LogHash:
    """Hash of an event log, the same however the log is cut into pieces: one SHA-256 for each field, and one over those."""

    def __init__(self) -> None:
        self._fields = {(kind, name): hashlib.sha256() for kind, dtype in _LOG.items() for name in dtype.names or ()}
        self._scratch = np.empty(0, np.int64)

    def update(self, kind: str, records: Records) -> None:
        """Add records of a kind: `"trade"`, `"outcome"`, `"event"` or `"liquidation"`."""
        if len(self._scratch) < len(records):
            self._scratch = np.empty(2 * len(records), np.int64)
        for name in records.dtype.names or ():
            column = self._scratch.view(records.dtype[name])[: len(records)]
            column[:] = records[name]
            self._fields[kind, name].update(column.data)

    def hexdigest(self) -> str:
        """The hash so far."""
        return hashlib.sha256(b"".join(part.digest() for part in self._fields.values())).hexdigest()


class Recorder:
    """Watches a market: history of quotes, bars, flows, trades, and the hash of the event log. It changes nothing."""

    def __init__(self, market: "Market") -> None:
        """Watch a market that is being set up."""
        scenario = market.scenario
        self._market = market
        self._instruments = market.exchange.instruments
        n, steps = len(self._instruments), scenario.clock.steps
        self.mids: npt.NDArray[np.float64] = np.zeros((n, steps + 1))
        """Mid price of each instrument before each step, in currency."""
        self._start = np.datetime64(scenario.clock.start.replace(tzinfo=None), "ns")
        self._pending: dict[str, list[Records]] = {kind: [] for kind in _LOG}
        self._hash = LogHash()
        self._rejects = np.zeros(256, np.int64)
        self._messages = self._events = self._n_trades = 0
        self._trades = Spool(TRADE)
        self._order_log = OrderLog(self._instruments) if scenario.recording.orders else None
        self._liquidations = Rows(LIQUIDATION)
        ends = ("", *(f"_{bps:g}bp" for bps in scenario.recording.profile_bps))
        depths = [f"{side}_depth{end}" for end in ends for side in ("bid", "ask")]
        numbers = ["open", "high", "low", "close", "volume", "trades", "mid", "spread_bps", *depths]
        numbers += ["mark", "open_interest", "funding"]
        self._bar = np.dtype(
            [
                ("time", np.int64),
                ("instrument", np.int16),
                *((name, np.int64 if name == "trades" else float) for name in numbers),
            ]
        )
        self._bars, self._flows, self._gauges = Rows(self._bar), Rows(_FLOW), Rows(_GAUGE)
        self._last_bars = np.zeros(0, self._bar)
        self._gauge_codes: dict[tuple[str, str], int] = {}
        self._moves = Moves(market)
        self._last = np.array(
            [instrument.ticks(instrument.reference_price or 0) for instrument in self._instruments], np.int64
        )
        self._mid_ticks = [float(ticks) for ticks in self._last]
        self._last_seen = [0] * n
        self._ticks = [instrument.tick for instrument in self._instruments]
        self._bar_start_ns = 0
        self._networks: dict[int, tuple[pd.DataFrame, pd.DataFrame]] = {}
        self._openings: list[tuple[Population, npt.NDArray[np.int64], dict[int, npt.NDArray[np.int64]]]] = []

    # ------------------------------------------------------------------ while it runs

    def quote(self, step: int, tops: Sequence[tuple[int, ...]]) -> None:
        """Note the mid prices before a step, from the fields of a `VIEW` record of each instrument.

        Where a side is empty, a trade since then or else the mid before stands in, as far as the other side allows.
        """
        for k, (_, _, bid, ask, last, *_) in enumerate(tops):
            if bid and ask:
                ticks = (bid + ask) / 2.0
            else:
                ticks = float(last) if last != self._last_seen[k] else self._mid_ticks[k]
                ticks = max(ticks, float(bid))
                if ask:
                    ticks = min(ticks, float(ask))
            self._mid_ticks[k] = ticks
            self._last_seen[k] = last
            self.mids[k, step] = ticks * self._ticks[k]

    def opened(self, population: "Population") -> None:
        """Note what a population starts with."""
        accounts, rows = self._market.exchange.accounts, population.rows
        held = {k: accounts.position[rows, k] for k in range(len(self._instruments))}
        self._openings.append(
            (population, accounts.cash[rows].copy(), {k: lots for k, lots in held.items() if lots.any()})
        )

    def observe(self, report: Any, tape: Records) -> None:
        """Take in what one step brought, and the tape it was made of."""
        pending = self._pending
        if self._order_log is not None:
            self._order_log.add(self._market.exchange.messages - len(tape), tape, report.outcomes, report.events)
        if len(report.trades):
            pending["trade"].append(report.trades)
        if len(report.outcomes):
            pending["outcome"].append(report.outcomes)
        if len(report.events):
            pending["event"].append(report.events)
        if len(report.liquidations):
            pending["liquidation"].append(report.liquidations)

    def sample_network(self) -> None:
        """Export the contagion network as it is now."""
        self._networks[self._market.time_ns] = to_tables(self._market.contagion.network())

    def sample(self) -> None:
        """Close the bar that ends now."""
        now_ns = self._market.time_ns
        if now_ns == self._bar_start_ns:
            return
        sums = np.zeros(len(self._instruments), BAR)
        flows = np.zeros((len(self._instruments), len(_ROLES), len(_REASONS), 2))
        sum_trades(self._flush(), sums, flows)
        self._bars.add(self._closed(sums))
        self._flows.add(self._flows_of(flows))
        self._moves.take(self._bar_start_ns)
        codes = self._gauge_codes
        gauges = [
            (self._bar_start_ns, codes.setdefault((population.name, gauge), len(codes)), value)
            for population in self._market.populations
            for gauge, value in population.gauges().items()
        ]
        self._gauges.add(np.array(gauges, _GAUGE))
        self._bar_start_ns = now_ns

    def _closed(self, sums: Records) -> Records:
        """The bars that end now, of which the trades came to `sums`."""
        recording, exchange = self._market.scenario.recording, self._market.exchange
        bars = self._last_bars = np.zeros(len(self._instruments), self._bar)
        for k, (instrument, (bid, ask)) in enumerate(zip(self._instruments, self._best(), strict=True)):
            *ticks, lots, count = sums[k].item()
            ticks = ticks if count else [self._last[k]] * 4
            self._last[k] = ticks[-1]
            mid = float(self.mids[k, self._market.steps_done])
            depth = [
                lots_within
                for bps in (recording.depth_bps, *recording.profile_bps)
                for lots_within in exchange.depth_within(k, bps)
            ]
            bars[k] = (
                self._bar_start_ns,
                k,
                *(float(tick) * instrument.tick for tick in ticks),
                lots * instrument.lot,
                count,
                mid,
                (ask - bid) * instrument.tick / mid * 1e4 if bid and ask else np.nan,
                *(float(lots_within) * instrument.lot * mid for lots_within in depth),
                *self._margin_state(k),
            )
        return bars

    def _flows_of(self, sums: npt.NDArray[np.float64]) -> Records:
        """Volume and notional of the bar that ends now, by instrument, role and reason, where there is any."""
        where = np.nonzero(sums[..., 0])
        lots, ticks = (
            np.array([getattr(each, what) for each in self._instruments])[where[0]] for what in ("lot", "tick")
        )
        flows = np.empty(len(where[0]), _FLOW)
        flows["time"] = self._bar_start_ns
        flows["instrument"], flows["role"], flows["reason"] = where
        flows["volume"], flows["notional"] = sums[..., 0][where] * lots, sums[..., 1][where] * lots * ticks
        return flows

    def _margin_state(self, k: int) -> tuple[float, float, float]:
        """Mark (currency), open interest (coins) and running funding rate of an instrument; not numbers where it has none."""
        instrument, market = self._instruments[k], self._market
        if instrument.margin is None:
            return np.nan, np.nan, np.nan
        funding = market.house.funding_rate(instrument.name) if instrument.margin.funding else np.nan
        return market.view()[instrument.name].mark, market.exchange.open_interest(k) * instrument.lot, funding

    def _best(self) -> list[tuple[int, int]]:
        """Best bid and ask of each instrument in ticks, 0 where there is none."""
        return [(bid, ask) for _, _, bid, ask, *_ in self._market.exchange.tops().tolist()]

    def _flush(self) -> Records:
        pieces = {kind: join(parts, _LOG[kind]) if parts else None for kind, parts in self._pending.items()}
        for parts in self._pending.values():
            parts.clear()
        for kind, records in pieces.items():
            if records is not None:
                self._hash.update(kind, records)
        outcomes, events, trades = pieces["outcome"], pieces["event"], pieces["trade"]
        if outcomes is not None:
            self._messages += len(outcomes)
            self._rejects += np.bincount(outcomes["reject"], minlength=256)
        if events is not None:
            self._events += len(events)
        if pieces["liquidation"] is not None:
            self._liquidations.add(pieces["liquidation"])
        if trades is None:
            return np.zeros(0, TRADE)
        self._n_trades += len(trades)
        if self._market.scenario.recording.trades:
            self._trades.add(trades)
        return trades

    def reporters(self) -> dict[str, Callable[["Market"], float]]:
        """The few series that people plot, for Mesa's DataCollector: those of the first instrument."""

        def of_bar(column: str) -> Callable[["Market"], float]:
            def report(market: "Market") -> float:
                bars = market.recorder._last_bars
                return float(bars[column][0]) if len(bars) else float("nan")

            return report

        columns = ("volume", "spread_bps", "bid_depth", "ask_depth")
        price = {"price": lambda market: float(market.recorder.mids[0, market.steps_done])}
        return price | {column: of_bar(column) for column in columns}

    # ------------------------------------------------------------------ tables

    def _utc(self, time_ns: npt.NDArray[np.int64]) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(self._start + time_ns.astype("timedelta64[ns]")).tz_localize("UTC")

    def _names(self, owners: npt.NDArray[np.int32]) -> Any:
        names = [population.name for population, _, _ in self._openings]
        firsts = [population.first for population, _, _ in self._openings]
        fund = self._market.exchange.fund
        if fund >= 0 and fund not in firsts:
            names, firsts = [*names, "insurance fund"], [*firsts, fund]
        if not names:
            return _labels(np.zeros(0, int), names)
        order = np.argsort(firsts)
        places = np.searchsorted(np.asarray(firsts)[order], owners, side="right") - 1
        return _labels(order[np.maximum(places, 0)], names)

    def trades_table(self) -> pd.DataFrame:
        """One row for each trade."""
        return pd.concat(self.trade_tables(), ignore_index=True)

    def trade_tables(self) -> Iterator[pd.DataFrame]:
        """The same in pieces, so that there need not be room for all of them."""
        yield from map(self._trades_table, self._trades.blocks())
        if self._pending["trade"]:
            yield self._trades_table(join(self._pending["trade"], TRADE))

    def _trades_table(self, trades: Records) -> pd.DataFrame:
        ticks = np.array([instrument.tick for instrument in self._instruments])[trades["instrument"]]
        lots = np.array([instrument.lot for instrument in self._instruments])[trades["instrument"]]
        return pd.DataFrame(
            {
                "time": self._utc(trades["time"]),
                "instrument": _labels(trades["instrument"], [i.name for i in self._instruments]),
                "price": np.round(trades["price"] * ticks, 9),
                "quantity": np.round(trades["quantity"] * lots, 9),
                "aggressor": _labels(trades["aggressor"], _SIDES),
                "taker": self._names(trades["taker_owner"]),
                "maker": self._names(trades["maker_owner"]),
                "taker_reason": _labels(trades["taker_reason"], _REASONS),
                "maker_reason": _labels(trades["maker_reason"], _REASONS),
                "taker_account": trades["taker_owner"],
                "maker_account": trades["maker_owner"],
                "taker_order": trades["taker"],
                "maker_order": trades["maker"],
                "message": trades["message"],
            }
        )

    def _liquidated(self) -> Records:
        return join([self._liquidations.since(), *self._pending["liquidation"]], LIQUIDATION)

    def liquidations_table(self) -> pd.DataFrame:
        """One row for each thing the clearing house did to an account; `parent` leads to the liquidation that set it off."""
        rows = self._liquidated()
        ticks = np.array([instrument.tick for instrument in self._instruments])[rows["instrument"]]
        lots = np.array([instrument.lot for instrument in self._instruments])[rows["instrument"]]
        return pd.DataFrame(
            {
                "time": self._utc(rows["time"]),
                "instrument": _labels(rows["instrument"], [i.name for i in self._instruments]),
                "what": _labels(rows["what"], _FORCED),
                "trader": self._names(rows["account"]),
                "account": rows["account"],
                "counterparty": rows["counterparty"],
                "closed": np.where(rows["side"] == Side.SELL, "long", "short"),
                "quantity": np.round(rows["quantity"] * lots, 9),
                "price": np.where(rows["price"] > 0, np.round(rows["price"] * ticks, 9), np.nan),
                "bankruptcy_price": np.where(rows["limit"] > 0, np.round(rows["limit"] * ticks, 9), np.nan),
                "mark": np.round(rows["mark"] * ticks, 9),
                "amount": rows["amount"] / MONEY_UNITS,
                "number": rows["number"],
                "parent": rows["parent"],
                "message": rows["message"],
            }
        )

    def trades_of(self, account: int) -> pd.DataFrame:
        """The trades of one account, told from its side."""
        table = self.trades_table()
        mine = table[(table["taker_account"] == account) | (table["maker_account"] == account)]
        taker = mine["taker_account"] == account
        bought = taker == (mine["aggressor"] != "sell")  # in an auction the taker is the buy order
        return pd.DataFrame(
            {
                "time": mine["time"],
                "instrument": mine["instrument"],
                "side": np.where(bought, "buy", "sell"),
                "price": mine["price"],
                "quantity": mine["quantity"],
                "maker": ~taker,
            }
        ).reset_index(drop=True)

    def bars_table(self, since: int = 0) -> pd.DataFrame:
        """The bars that are closed, from the row `since` on; see `Result.bars`."""
        return self._table(self._bars.since(since), instrument=self._instrument_names())

    def flows_table(self, since: int = 0) -> pd.DataFrame:
        """Volume by reason in the bars that are closed, from the row `since` on; see `Result.flows`."""
        return self._table(self._flows.since(since), instrument=self._instrument_names(), role=_ROLES, reason=_REASONS)

    def _instrument_names(self) -> list[str]:
        return [instrument.name for instrument in self._instruments]

    def _table(self, rows: Records, **names: Sequence[str]) -> pd.DataFrame:
        """A table of rows, with the time of day, and of columns that hold places in a list of `names` the names."""
        columns: dict[str, Any] = {name: rows[name] for name in rows.dtype.names or ()}
        columns["time"] = self._utc(rows["time"])
        columns |= {name: pd.array(list(known), dtype="str").take(rows[name]) for name, known in names.items()}
        return pd.DataFrame(columns)

    def _moves_table(self) -> pd.DataFrame:
        table = self._moves.table()
        table["time"] = self._utc(table["time"].to_numpy(np.int64))
        return table.astype({"change": float})

    def _gauges_table(self) -> pd.DataFrame:
        rows = self._gauges.since()
        traders, gauges = ([pair[part] for pair in self._gauge_codes] for part in (0, 1))
        table = self._table(rows, gauge=gauges)
        table.insert(1, "trader", pd.Series(pd.array(traders, dtype="str").take(rows["gauge"])))
        return table

    def _account_tables(self) -> Callable[[], Iterator[pd.DataFrame]]:
        """The table of the accounts as it is now, in pieces: most accounts hold one instrument of many, and only what is held is kept."""
        accounts, openings = self._market.exchange.accounts, self._openings
        if not openings:
            return lambda: iter([pd.DataFrame()])
        rows = np.concatenate([population.rows for population, _, _ in openings])
        which = np.repeat(np.arange(len(openings)), [population.size for population, _, _ in openings])
        kinds = sorted({population.kind for population, _, _ in openings})
        kind_of = np.array([kinds.index(population.kind) for population, _, _ in openings])
        names = [population.name for population, _, _ in openings]
        cash = np.concatenate([cash for _, cash, _ in openings]), accounts.cash[rows]
        held = {}
        for k, instrument in enumerate(self._instruments):
            starts = [lots.get(k, np.zeros(population.size, np.int64)) for population, _, lots in openings]
            for when, lots in (("start", np.concatenate(starts)), ("end", accounts.position[rows, k])):
                where = np.flatnonzero(lots)
                held[f"{instrument.name}_{when}"] = where, lots[where] * instrument.lot

        def pieces() -> Iterator[pd.DataFrame]:
            for first in range(0, max(len(rows), 1), _PIECE):
                part = slice(first, first + _PIECE)
                table: dict[str, Any] = {
                    "account": rows[part],
                    "trader": _labels(which[part], names),
                    "kind": _labels(kind_of[which[part]], kinds),
                    "cash_start": cash[0][part] / MONEY_UNITS,
                    "cash_end": cash[1][part] / MONEY_UNITS,
                }
                for name, (where, coins) in held.items():
                    here = slice(*np.searchsorted(where, (first, first + _PIECE)))
                    table[name] = np.zeros(len(rows[part]))
                    table[name][where[here] - first] = coins[here]
                yield pd.DataFrame(table, copy=False)

        return pieces

    def result(self) -> Result:
        """Everything so far, with the audit of the ledger."""
        self.sample()
        self.sample_network()
        market, scenario = self._market, self._market.scenario
        audit = market.house.audit()
        beside = (f"{p.name}: {fault}" for p in market.populations for fault in p.faults())
        audit = replace(audit, faults=(*audit.faults, *beside))
        bars = self.bars_table()
        network, nodes = self._network_tables()
        summary: dict[str, Any] = {
            "scenario": scenario.name,
            "scenario_hash": scenario.hash,
            "seed": scenario.seed,
            "start": scenario.clock.start.isoformat(),
            "end": scenario.clock.utc(market.time_ns).isoformat(),
            "steps": market.steps_done,
            "instruments": {
                instrument.name: _about(
                    bars[bars["instrument"] == instrument.name], self.mids[k, : market.steps_done + 1]
                )
                for k, instrument in enumerate(self._instruments)
            },
            "traders": self._about_traders(),
            "credited": market.house.entries,
            "messages": self._messages,
            "trades": self._n_trades,
            "events": self._events,
            "liquidations": self._n_liquidations(),
            "rejects": {
                reject.name.lower(): int(self._rejects[reject]) for reject in Reject if reject and self._rejects[reject]
            },
            "audit_passed": audit.passed,
            "event_log_hash": self._hash.hexdigest(),
        }
        return Result(
            summary=summary,
            audit=audit,
            scenario=scenario.model_dump(mode="json"),
            bars=bars,
            flows=self.flows_table(),
            moves=self._moves_table(),
            gauges=self._gauges_table(),
            liquidations=self.liquidations_table(),
            network=network,
            nodes=nodes,
            _accounts=self._account_tables(),
            _trades=self.trade_tables,
            _orders=self._order_tables(),
        )

    def _order_tables(self) -> dict[str, Callable[[], Iterator[pd.DataFrame]]]:
        """Messages and events, if they are kept."""
        kept = self._order_log
        if kept is None:
            return {}
        return {"messages": lambda: kept.messages(self._utc, self._names), "events": lambda: kept.events(self._utc)}

    def _network_tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Edges and nodes of all exports."""
        tables = []
        for part in (0, 1):
            dated = [(now, pair[part]) for now, pair in self._networks.items()]
            table = pd.concat([frame for _, frame in dated], ignore_index=True)
            table.insert(0, "time", self._utc(np.repeat([now for now, _ in dated], [len(frame) for _, frame in dated])))
            tables.append(table)
        return tables[0], tables[1]

    def _n_liquidations(self) -> dict[str, int]:
        """How many of each kind of liquidation record there are."""
        rows = self._liquidated()
        return {
            name: int(count)
            for name, count in zip(_FORCED, np.bincount(rows["what"], minlength=len(_FORCED)), strict=True)
        }

    def _about_traders(self) -> dict[str, Any]:
        accounts = self._market.exchange.accounts
        about: dict[str, Any] = {}
        for population, cash, lots in self._openings:
            about[population.name] = {
                "kind": population.kind,
                "accounts": population.size,
                "cash_start": int(cash.sum()) / MONEY_UNITS,
                "cash_end": int(accounts.cash[population.rows].sum()) / MONEY_UNITS,
                **population.about(),
            }
            for k, instrument in enumerate(self._instruments):
                about[population.name][f"{instrument.name}_start"] = int(np.sum(lots.get(k, 0))) * instrument.lot
                about[population.name][f"{instrument.name}_end"] = (
                    int(accounts.position[population.rows, k].sum()) * instrument.lot
                )
        return about


def _labels(codes: npt.NDArray[Any], names: list[str]) -> Any:
    return pd.Categorical.from_codes(codes.astype(np.int64), pd.Index(names))


def _about(bars: pd.DataFrame, mids: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Numbers about one instrument: prices are mids, the extremes those of trades."""
    if bars.empty:
        return {"open": float(mids[0]), "close": float(mids[-1])}
    peak = np.maximum.accumulate(mids)
    return {
        "open": float(mids[0]),
        "close": float(mids[-1]),
        "low": float(bars["low"].min()),
        "high": float(bars["high"].max()),
        "return": float(mids[-1] / mids[0] - 1.0),
        "drawdown": float((mids / peak - 1.0).min()),
        "volume": float(bars["volume"].sum()),
        "trades": int(bars["trades"].sum()),
        "median_spread_bps": float(bars["spread_bps"].median()),
        "median_bid_depth": float(bars["bid_depth"].median()),
        "median_ask_depth": float(bars["ask_depth"].median()),
        "lowest_bid_depth": float(bars["bid_depth"].min()),
    }
