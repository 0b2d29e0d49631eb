"""What the page is told of a run: small, whole and of bounded size, so that any of them may be dropped.

Times are seconds since the start of the run, prices currency, amounts currency. A run of any length has at most `COLUMNS` columns.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pandas as pd

from abm.contagion.chain import stages
from abm.contagion.graph import Network
from abm.exchange.exchange import Report
from abm.exchange.messages import LIQUIDATION, Forced, Reason, Records, Side, join
from abm.record import LOST
from abm.scenario import Scenario
from analysis.compare import compare, read_observations

if TYPE_CHECKING:
    from abm.market import Market

COLUMNS = 1440
"""Most points of a line."""
PERIODS = 120
"""Most bars of volume."""
NODES = 60
"""Most nodes of the network that are shown."""
RUNGS = 10
"""Rungs a side of the ladder."""
REACH = 0.02
"""How far from the mid the depth is read, as a fraction of it."""
FAR = 25
"""How far from the mark the map of liquidations reads, per cent."""

REASONS = tuple(reason.name.lower() for reason in Reason)
_WIDTHS = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_LOST = [Forced[what.upper()] for what in LOST]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """How a run is cut into columns, the same on both sides of the pipe."""

    total: float
    """Seconds in all."""
    stride: int
    """Steps to a column of the price."""
    column: float
    """Seconds to a column of the price."""
    bar: float
    """Seconds to a recorded bar."""
    thinned: int
    """Bars to a column of what is read from bars."""
    period: float
    """Seconds to a bar of volume."""
    calm: float
    """Seconds at the beginning that the stages of the chain are held against: a day, or a quarter of a short run."""

    @classmethod
    def of(cls, scenario: Scenario) -> "Grid":
        """The grid of a scenario."""
        clock, bar = scenario.clock, scenario.recording.interval
        total = clock.steps * clock.step
        stride = -(-clock.steps // COLUMNS)
        period = next((w for w in _WIDTHS if w >= bar and total / w <= PERIODS), total / PERIODS)
        calm = 86_400.0 if total >= 2 * 86_400.0 else max(total / 4, 2 * bar)
        return cls(
            total, stride, stride * clock.step, bar, max(1, -(-int(total / bar) // COLUMNS)), float(period), calm
        )


@dataclass(frozen=True)
class Traded:
    """One instrument."""

    price: Floats
    """Mid at the beginning of each column so far."""
    now: float
    """Mid now."""
    longs: Floats
    """By column: longs that were liquidated."""
    shorts: Floats
    """The same of shorts."""
    accounts: int
    """Accounts that were liquidated, each time counted."""
    volume: dict[str, Floats]
    """By reason of who took: volume in each period."""
    bars: dict[str, Floats]
    """`time` at which each kept bar ended, and `depth` bid, `open_interest` and `funding` (per cent) then; none of them without margin but depth."""
    ladder: tuple[float, Floats, Floats]
    """Width of a rung, and for bids and for offers (lower price of a rung, amount), as rows."""
    depth: tuple[Floats, Floats]
    """For bids and for offers (price, amount from the mid to there), as rows."""
    map: tuple[float, Floats, Floats] | None
    """The mark, and by whole per cent of fall, then of rise, what would be liquidated within; none without margin."""


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment."""

    step: int
    seconds: float
    wall: float
    """Seconds that it has taken so far, pauses left out."""
    over: bool
    running: bool
    traded: dict[str, Traded]
    """What is watched; all instruments when the run is over."""
    stages: list[dict[str, Any]]
    """By stage: onset in seconds, or None; how near it is to its threshold, 1 being there."""
    nodes: list[dict[str, Any]]
    """Node, kind, loss (fraction of what it had, nan where it has none), size."""
    edges: list[tuple[str, str, str]]
    """Source, target, channel."""
    facts: list[dict[str, Any]]
    """Rows of the comparison whose window the run covers so far."""
    memory: float
    """Most memory that the process has had, bytes."""
    passed: bool | None = None
    """Of a run that is over: whether its audit passed."""


def partner(scenario: Scenario, name: str) -> str:
    """Where those trade with leverage who trade an instrument: itself if it has margin, else one of the same asset that has; itself if none does."""
    asset, instruments = name.partition("-")[0], scenario.instruments
    same = [other for other in instruments if other.partition("-")[0] == asset and instruments[other].margin]
    return name if name in same or not same else same[0]


@dataclass
class _Part:
    """Something that is read now and then, for a share of the processor's time."""

    share: float
    value: Any = None
    _due: float = field(default=0.0)
    _times: int = field(default=0)

    def read(self, look: Callable[[], Any], always: bool = False) -> Any:
        began = time.process_time()
        if always or began >= self._due:
            self.value = look()
            ended = time.process_time()
            self._times += 1
            # What is compiled, or loaded, at first counts for nothing
            self._due = ended + (ended - began) / self.share if self._times > 2 else 0.0
        return self.value


class Watch:
    """Reads a market, and changes nothing in it; an observer of each step.

    Args:
        market: A market that has not begun.
    """

    def __init__(self, market: "Market") -> None:
        self._market = market
        self.grid = Grid.of(market.scenario)
        self.names = list(market.scenario.instruments)
        n, columns = len(self.names), -(-market.scenario.clock.steps // self.grid.stride) + 1
        self._forced: list[Records] = []
        self._liquidated = np.zeros((n, 2, columns))
        self._accounts = np.zeros(n, np.int64)
        self._volume = np.zeros((n, len(REASONS), -(-int(self.grid.total) // max(1, int(self.grid.period))) + 1))
        self._kept: dict[str, list[tuple[float, ...]]] = {name: [] for name in self.names}
        self._bars_read = self._flows_read = 0
        self._asset = self.names[0].partition("-")[0]
        self._bars: list[pd.DataFrame] = []
        self._flows: list[pd.DataFrame] = []
        self._stages, self._network = _Part(0.02, []), _Part(0.01, ([], []))
        self._maps: dict[str, _Part] = defaultdict(lambda: _Part(0.01))
        self._books: dict[str, _Part] = defaultdict(lambda: _Part(0.02))
        self._tables = _Part(0.02)
        self._facts: list[dict[str, Any]] = []
        self._windows = _ends(market.scenario)
        self._first = _losses(market.contagion.network(), {})[1]
        market.observers.append(self)

    def observe(self, report: Report) -> None:
        """Note who was liquidated."""
        if len(report.liquidations):
            self._forced.append(report.liquidations)

    def take(self, watched: str, wall: float, running: bool, memory: float) -> Snapshot:
        """The run as it is now.

        Args:
            watched: The instrument that is looked at.
            wall: Seconds that the run has taken.
            running: Whether it goes on.
            memory: Of the process, bytes.
        """
        market = self._market
        over = market.steps_done >= market.scenario.clock.steps
        passed = None
        if over or self._facts_due():
            result = market.result()  # at the end of a bar this cuts none short
            self._facts = [row.to_dict() for row in compare(result) if row.runs]
            passed = result.audit.passed if over else None
        market.view()
        self._sum_forced()
        self._tables.read(self._read_tables, over)
        nodes, edges = self._network.read(self._read_network, over)
        return Snapshot(
            step=market.steps_done,
            seconds=market.seconds,
            wall=wall,
            over=over,
            running=running and not over,
            traded={
                name: self._traded(name, over)
                for name in (self.names if over else {watched, partner(market.scenario, watched)})
            },
            stages=self._stages.read(self._read_stages, over),
            nodes=nodes,
            edges=edges,
            facts=self._facts,
            memory=memory,
            passed=passed,
        )

    # ------------------------------------------------------------------ what has been

    def _sum_forced(self) -> None:
        if not self._forced:
            return
        rows = join(self._forced, LIQUIDATION)
        self._forced.clear()
        rows = rows[np.isin(rows["what"], _LOST)]
        instruments = self._market.exchange.instruments
        unit = np.array([each.lot * each.tick for each in instruments])[rows["instrument"]]
        # What was liquidated before the first message has no time of its own
        column = np.maximum(rows["time"] / 1e9 // self.grid.column, 0).astype(np.int64)
        side = np.where(rows["side"] == Side.SELL, 0, 1)  # a long is closed by a sale
        np.add.at(self._liquidated, (rows["instrument"], side, column), rows["quantity"] * rows["mark"] * unit)
        # Each begins with an order of its own, filled or not
        np.add.at(self._accounts, rows["instrument"][rows["what"] == Forced.LIQUIDATED], 1)

    def _read_tables(self) -> None:
        """Take in the bars that were closed since."""
        recorder, grid, n = self._market.recorder, self.grid, len(self.names)
        bars, flows = recorder.bars_table(self._bars_read), recorder.flows_table(self._flows_read)
        if bars.empty:
            return
        start = pd.Timestamp(self._market.scenario.clock.start)
        first_bar = self._bars_read // n
        self._bars_read, self._flows_read = self._bars_read + len(bars), self._flows_read + len(flows)
        for k, name in enumerate(self.names):
            mine = bars.iloc[k::n]
            kept = mine[(np.arange(first_bar, first_bar + len(mine)) + 1) % grid.thinned == 0]
            at = (kept["time"] - start).dt.total_seconds() + grid.bar
            held = kept["open_interest"] * kept["mark"]
            self._kept[name] += zip(at, kept["bid_depth"], held, kept["funding"] * 100.0, strict=True)
        taken = flows[flows["role"] == "taker"]
        where = (
            taken["instrument"].map(self.names.index).to_numpy(np.int64),
            taken["reason"].map(REASONS.index).to_numpy(np.int64),
            ((taken["time"] - start).dt.total_seconds() // grid.period).to_numpy(np.int64),
        )
        np.add.at(self._volume, where, taken["notional"].to_numpy())
        self._bars.append(self._elsewhere(bars).groupby(["time", "instrument"], as_index=False)["bid_depth"].sum())
        self._flows.append(
            self._elsewhere(taken).groupby(["time", "instrument", "role", "reason"], as_index=False)["notional"].sum()
        )

    def _elsewhere(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table in which all other assets than the first are one: the rules of stages ask no more."""
        mine = table["instrument"].str.partition("-")[0] == self._asset if len(table) else []
        return table.assign(instrument=np.where(mine, self._asset, "elsewhere"))

    def _read_stages(self) -> list[dict[str, Any]]:
        """When each stage of the chain set in; nothing while the calm lasts that they are held against."""
        if self._market.seconds <= self.grid.calm or not self._bars:
            return []
        self._bars, self._flows = ([pd.concat(parts, ignore_index=True)] for parts in (self._bars, self._flows))
        try:
            table = stages(self._bars[0], self._flows[0], self._asset, f"{self.grid.calm:g}s")
        except ValueError:  # the last bar of the calm is not closed yet
            return []
        start, found = pd.Timestamp(self._market.scenario.clock.start), []
        for row in table.to_dict("records"):
            falls = row["stage"] in ("liquidity_drought", "market_making_collapse")
            near = (1.0 - row["worst"]) / (1.0 - row["threshold"]) if falls else row["worst"] / row["threshold"]
            onset = None if pd.isna(row["onset"]) else (row["onset"] - start).total_seconds()
            found.append({"stage": row["stage"], "onset": onset, "near": max(0.0, min(1.0, float(near)))})
        return found

    def _facts_due(self) -> bool:
        """Whether the window of an observation is over since they were last looked at, and a bar ends now."""
        if not self._windows or self._market.seconds < self._windows[0] or self._market.seconds % self.grid.bar:
            return False
        self._windows = [end for end in self._windows if end > self._market.seconds]
        return True

    # ------------------------------------------------------------------ what is

    def _traded(self, name: str, over: bool) -> Traded:
        market, k, stride = self._market, self.names.index(name), self.grid.stride
        mids = market.recorder.mids[k]
        price = mids[: market.steps_done + 1 : stride]
        n = len(price)
        kept = np.array(self._kept[name]).reshape(-1, 4).T
        total = self._volume[k].sum(axis=1)
        ladder, depth = self._books[name].read(lambda: self._read_book(k), over)
        return Traded(
            price=price.copy(),
            now=float(mids[market.steps_done]),
            longs=self._liquidated[k, 0, :n].copy(),
            shorts=self._liquidated[k, 1, :n].copy(),
            accounts=int(self._accounts[k]),
            volume={REASONS[r]: self._volume[k, r].copy() for r in np.flatnonzero(total)},
            bars=dict(zip(("time", "depth", "open_interest", "funding"), kept, strict=True)),
            ladder=ladder,
            depth=depth,
            map=self._maps[name].read(lambda: self._read_map(k), over),
        )

    def _read_book(self, k: int) -> tuple[tuple[float, Floats, Floats], tuple[Floats, Floats]]:
        """The ladder and the depth of a book."""
        instrument, mid = self._market.exchange.instruments[k], float(self._market.view()[self.names[k]].mid)
        width = _round(mid / 1000.0)
        ladder, depth = [], []
        for side, sign in ((Side.BUY, -1.0), (Side.SELL, 1.0)):
            rows = self._market.exchange.levels(k, side, 4096)
            price = rows["price"] * instrument.tick
            amount = rows["quantity"] * instrument.lot * price
            near = np.abs(price - mid) <= REACH * mid
            price, amount = price[near], amount[near]
            part = (
                np.floor if side == Side.BUY else np.ceil
            )  # what is bid at a rung or above it, what is offered there or below
            rung, first = part(price / width).astype(np.int64), int(part(mid / width))
            rungs = first + np.arange(RUNGS) * int(sign)
            sums = np.array([amount[rung == each].sum() for each in rungs])
            ladder.append(np.vstack([rungs * width, sums]))
            edges = np.linspace(0.0, REACH, 41)
            within = np.searchsorted(np.abs(price - mid) / mid, edges, side="right")
            reached = np.concatenate([[0.0], np.cumsum(amount)])[within]
            depth.append(np.vstack([mid * (1.0 + sign * edges), reached]))
        return (width, ladder[0], ladder[1]), (depth[0], depth[1])

    def _read_map(self, k: int) -> tuple[float, Floats, Floats] | None:
        """What would be liquidated within each per cent of fall and of rise."""
        instrument = self._market.exchange.instruments[k]
        if instrument.margin is None:
            return None
        mark = float(self._market.view()[self.names[k]].mark)
        prices = self._market.house.liquidation_prices(self.names[k])
        who = np.flatnonzero(~np.isnan(prices))
        lots = self._market.exchange.accounts.position[who, k]
        amount = np.abs(lots) * instrument.lot * mark
        away = (prices[who] / mark - 1.0) * 100.0
        edges = np.arange(FAR + 1.0)
        # Who is liquidated by a fall is long, and falls at a price below the mark
        fall, _ = np.histogram(-away[lots > 0], edges, weights=amount[lots > 0])
        rise, _ = np.histogram(away[lots < 0], edges, weights=amount[lots < 0])
        return mark, fall, rise

    def _read_network(self) -> tuple[list[dict[str, Any]], list[tuple[str, str, str]]]:
        nodes, _ = _losses(graph := self._market.contagion.network(), self._first)
        largest = sorted(nodes, key=lambda node: (node["kind"] != "asset", -node["size"]))[:NODES]
        shown = {node["node"] for node in largest}
        links = {(_whole(u), _whole(v), d["channel"]): None for u, v, d in graph.edges(data=True)}
        return largest, [link for link in links if link[0] in shown and link[1] in shown and link[0] != link[1]]


def _whole(node: str) -> str:
    """The population that a node belongs to: single firms are shown as one."""
    return node.partition("/")[0]


def _losses(graph: Network, first: Mapping[str, float]) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Nodes with what each has lost of what it first had, and what each has."""
    has: dict[str, float] = defaultdict(float)
    kinds: dict[str, str] = {}
    for node, data in graph.nodes(data=True):
        kinds.setdefault(_whole(node), data["kind"])
        has[_whole(node)] += float(data.get("price", data.get("equity", np.nan)))
    held: dict[str, float] = defaultdict(float)
    for u, v, data in graph.edges(data=True):
        if data["channel"] == "exposure":
            held[_whole(u)] += data["weight"]
            held[_whole(v)] += data["weight"]
    nodes = [
        {
            "node": name,
            "kind": kind,
            "loss": 1.0 - has[name] / first[name] if first.get(name, 0.0) > 0 else np.nan,
            "size": held[name],
        }
        for name, kind in kinds.items()
        if nx.degree(graph, name) or kind != "holder" or held[name]
    ]
    return nodes, dict(has)


def _ends(scenario: Scenario) -> list[float]:
    """When windows of observations end within a run, in seconds, each once."""
    if not scenario.observations:
        return []
    table = read_observations(scenario.observations)
    ends = table.loc[table["measure"].notna(), "to_utc"].dropna().dt.ceil("h").unique()
    seconds = {scenario.clock.seconds_at(pd.Timestamp(end).to_pydatetime()) for end in ends}
    return sorted(each for each in seconds if 0 < each < scenario.clock.steps * scenario.clock.step)


def _round(width: float) -> float:
    """A width near the given one, with 1, 2 or 5 as its only digit."""
    size = 10.0 ** np.floor(np.log10(width))
    return float(size * next(digit for digit in (1, 2, 5, 10) if digit * size >= width))
