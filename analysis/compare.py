"""What runs say beside what was observed, with the role each observation plays: put in, fitted to, or predicted.

An observations file says by `measure` what a run must have to be held against an observation, and by `market` in which instruments (a
pattern such as `*-perp` for several). Observations without a measure are facts that scenarios are built from, or that nothing here can say
anything about.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import quantile_test

from abm.record import LOST, Result
from abm.scenario import ScenarioError, configs
from abm.world.mining import hashprice

_log = logging.getLogger(__name__)
_HOUR = pd.Timedelta("1h")
_NUMBERS = ("observed", "low", "high", "simulated", "least", "most", "gap")

INTERVAL = (0.05, 0.95)
"""Quantiles between which nine of ten runs lie."""
STRAYED = 0.05
"""Premium over an hour beyond which a market is said to have left its index: as far as one venue of an index may be from the others before it counts
as no further (`clip` of `abm.clearing.rules.Mark`)."""


@dataclass(frozen=True)
class Row:
    """One observation beside one run or several that differ in their seed."""

    observation: str
    quantity: str
    unit: str
    observed: float
    low: float
    high: float
    simulated: float
    """Median over the runs that cover it."""
    least: float
    """Its 5 % quantile over the runs."""
    most: float
    """Its 95 % quantile."""
    median_low: float
    """Lower end of the 90 % interval of the median itself, from order statistics; not a number of fewer than five runs."""
    median_high: float
    """Its upper end."""
    runs: int
    """How many runs cover it."""
    role: str
    note: str
    measure: str
    """What is taken of a run: a key of `MEASURES`."""
    start: pd.Timestamp
    """When the window of the observation begins."""
    end: pd.Timestamp
    """When it ends: at its beginning where a moment is observed."""

    @property
    def inside(self) -> bool | None:
        """Whether the simulated value lies within the bounds of the observation; None where there is nothing to compare."""
        if np.isnan(self.simulated) or np.isnan(self.low) or np.isnan(self.high):
            return None
        return self.low <= self.simulated <= self.high

    @property
    def decided(self) -> bool | None:
        """Whether other seeds would hardly say otherwise: the median's interval is all within the bounds, or all beyond one; None where unknown."""
        if self.inside is None or np.isnan(self.median_low):
            return None
        within = self.low <= self.median_low and self.median_high <= self.high
        return within or self.median_high < self.low or self.median_low > self.high

    @property
    def gap(self) -> float:
        """Simulated less observed, in the unit of the observation."""
        return self.simulated - self.observed

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values, for JSON; what is not a finite number is None."""
        return {
            "observation": self.observation,
            "quantity": self.quantity,
            "unit": self.unit,
            **{key: _finite(getattr(self, key)) for key in _NUMBERS},
            "runs": self.runs,
            "role": self.role,
            "inside": self.inside,
            "note": self.note,
            "measure": self.measure,
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "median_low": _finite(self.median_low),
            "median_high": _finite(self.median_high),
            "decided": self.decided,
        }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def read_observations(name: str) -> pd.DataFrame:
    """Observations by id, from a file in `configs/observations` or a path.

    Raises:
        ScenarioError: There is no such file.
    """
    path = next((p for p in (configs() / "observations" / name, Path(name)) if p.is_file()), None)
    if path is None:
        raise ScenarioError(f"observations: {name}: no such file in configs/observations")
    _log.info("reads observations from %s", path)
    table = pd.read_csv(path, dtype={"source": str, "note": str}, keep_default_na=True)
    for column in ("from_utc", "to_utc"):
        table[column] = pd.to_datetime(table[column], utc=True)
    return table.set_index("id")


def compare(results: Sequence[Result] | Result) -> list[Row]:
    """One row for each observation that has a measure, in the order of the scenario's file.

    Args:
        results: One run, or several of one scenario.

    Raises:
        ScenarioError: The scenario names an observation that its file does not have.
    """
    runs = [results] if isinstance(results, Result) else list(results)
    return compare_measured(runs[0].scenario, [measured(run) for run in runs])


def measured(result: Result) -> dict[str, float]:
    """By observation what a run says of it, in the observation's unit; not a number where the run does not cover its window or market."""
    if not result.scenario["observations"]:
        return {}
    taken = Taken(result)
    table = read_observations(result.scenario["observations"])
    table = table[table["measure"].notna()]
    return {
        str(name): MEASURES[seen["measure"]](taken, seen["market"], seen["from_utc"], seen["to_utc"])
        for name, seen in table.iterrows()
    }


def compare_measured(scenario: Mapping[str, Any], runs: Sequence[Mapping[str, float]]) -> list[Row]:
    """`compare` for what `measured` has said of each run."""
    if not scenario["observations"]:
        return []
    table = read_observations(scenario["observations"])
    particular = scenario["compare"]
    for name in particular:
        if name not in table.index:
            raise ScenarioError(f"compare: {name} is not in {scenario['observations']}")
    rows = []
    for name, seen in table[table["measure"].notna()].iterrows():
        values = np.array([run[str(name)] for run in runs])
        values = values[~np.isnan(values)]
        least, middle, most = np.quantile(values, (INTERVAL[0], 0.5, INTERVAL[1])) if len(values) else [np.nan] * 3
        ends = _ends_of_median(values)
        own = particular.get(name, {})
        rows.append(
            Row(
                observation=str(name),
                quantity=f"{seen['instrument']} {seen['quantity']}",
                unit=str(seen["unit"]),
                observed=float(seen["value"]),
                low=float(seen["low"]) if pd.notna(seen["low"]) else -np.inf if pd.notna(seen["high"]) else np.nan,
                high=float(seen["high"]) if pd.notna(seen["high"]) else np.inf if pd.notna(seen["low"]) else np.nan,
                simulated=float(middle),
                least=float(least),
                most=float(most),
                median_low=ends[0],
                median_high=ends[1],
                runs=len(values),
                role=own.get("role") or str(seen["role"]),
                note="; ".join(note for note in (own.get("note"), seen["note"]) if isinstance(note, str) and note),
                measure=str(seen["measure"]),
                start=seen["from_utc"],
                end=seen["to_utc"],
            )
        )
    return rows


def _ends_of_median(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Order statistics between which the median of the distribution lies with 90 % at least, whatever that distribution is."""
    if len(values) < 2:
        return np.nan, np.nan
    found = quantile_test(values, q=np.median(values), p=0.5).confidence_interval(INTERVAL[1] - INTERVAL[0])
    return float(found.low), float(found.high)


def premiums(result: Result) -> dict[str, float]:
    """The widest premium of each instrument whose mark follows an index, where the run has a whole hour."""
    run = Taken(result)
    widest = {market: _premium(run, market, *run.span) for market in run.markets("*")}
    return {market: premium for market, premium in widest.items() if not np.isnan(premium)}


def strayed(premiums: Mapping[str, float]) -> dict[str, float]:
    """Those of the widest `premiums` that are beyond `STRAYED`.

    Nobody is left there who trades against the gap, and the mark follows the price: what is liquidated there, and what hangs on it, tells nothing
    of the event.
    """
    return {market: premium for market, premium in premiums.items() if abs(premium) > STRAYED}


# ------------------------------------------------------------------------------------------------------------- measures


class Taken:
    """What is measured of one run, over the windows of observations."""

    def __init__(self, result: Result) -> None:
        self._result = result
        self._interval = pd.Timedelta(seconds=result.scenario["recording"]["interval"])
        self._bars = dict(iter(result.bars.groupby("instrument", sort=False)))
        ends = result.bars["time"] + self._interval
        self._first, self._last = result.bars["time"].min(), ends.max()

    def markets(self, pattern: str) -> list[str]:
        """Instruments of the run whose names fit."""
        return [name for name in self._bars if fnmatchcase(name, pattern)]

    def price(self, market: str, when: pd.Timestamp) -> float:
        """The mid at a moment, in currency."""
        if market not in self._bars or not self._first <= when <= self._last:
            return np.nan
        bars = self._bars[market]
        past = bars["mid"][bars["time"] + self._interval <= when]
        return float(past.iloc[-1]) if len(past) else float(self._result.summary["instruments"][market]["open"])

    def window(self, market: str, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """Bars between two moments; none where the run does not cover them. An end a minute before midnight is midnight."""
        if market not in self._bars or not (self._first <= start and end <= self._last):
            return pd.DataFrame(columns=self._result.bars.columns)
        bars = self._bars[market]
        return bars[(bars["time"] >= start) & (bars["time"] + self._interval <= end.ceil("h"))]

    def forced(self, pattern: str, start: pd.Timestamp, end: pd.Timestamp, *what: str) -> pd.DataFrame | None:
        """What the clearing house did to accounts between two moments, with `usd` at the mark; None where the run does not cover them."""
        names = self.markets(pattern)
        if not names or not (self._first <= start and end <= self._last):
            return None
        rows = self._result.liquidations
        rows = rows[rows["what"].isin(what) & rows["instrument"].isin(names)]
        rows = rows[rows["time"].between(start, end, inclusive="left")]
        return rows.assign(usd=rows["quantity"] * rows["mark"])

    def liquidated(self, pattern: str, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame | None:
        """Positions that accounts lost: sold into the book, taken over by the fund, or closed against others that were deleveraged for it.

        Venues count all three as liquidated (Mechanics 1: of what was liquidated on 10 October 2025 some 35 % was deleveraged against others).
        """
        return self.forced(pattern, start, end, *LOST)

    def gauge(self, name: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
        """Mean of a gauge of traders over a window."""
        rows = self._result.gauges[self._result.gauges["gauge"] == name]
        rows = rows[rows["time"].between(start, end)]
        return float(rows["value"].mean()) if self._first <= start and end <= self._last else np.nan

    def premium(self, market: str) -> "pd.Series[float]":
        """Mid over that of the index, less 1, in the mean of an hour, by the time at which the hour ends.

        The index is the weighted mean of the mids that the mark follows (`margin.mark.index`). Empty where there is none, or no whole hour.
        """
        about = self._result.scenario["instruments"].get(market) or {}
        index = ((about.get("margin") or {}).get("mark") or {}).get("index")
        if not index or market not in self._bars:
            return pd.Series(dtype=float)
        mids = {name: self._bars[name].set_index("time")["mid"] for name in (market, *index)}
        followed = sum(mids[name] * weight for name, weight in index.items()) / sum(index.values())
        bars = max(1, round(_HOUR / self._interval))
        each = (mids[market] / followed - 1.0).rolling(bars).mean().dropna()
        return each.set_axis(each.index + self._interval)

    @property
    def span(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        """When the run begins and ends."""
        return self._first, self._last

    def miners(self) -> Mapping[str, Any]:
        """How the miners of the run are described; empty where there are none."""
        return next((each for each in self._result.scenario["traders"].values() if each["kind"] == "miners"), {})


Measure = Callable[[Taken, str, pd.Timestamp, pd.Timestamp], float]
"""What is computed of a run, in a market, between two moments."""


def _price(run: Taken, market: str, start: pd.Timestamp, _end: pd.Timestamp) -> float:
    return run.price(market, start)


def _return(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    return run.price(market, end) / run.price(market, start) - 1.0


def _low(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    return float(run.window(market, start, end)["low"].min())


def _high(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    return float(run.window(market, start, end)["high"].max())


def _drawdown(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    """Deepest fall of the mid from its highest so far, as bars see it; not above 0."""
    mids = np.array([run.price(market, start), *run.window(market, start, end)["mid"]])
    return float((mids / np.maximum.accumulate(mids) - 1.0).min()) if len(mids) > 1 else np.nan


def _spread(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    """Median at the ends of bars, basis points of the mid."""
    return float(run.window(market, start, end)["spread_bps"].median())


def _premium(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    """The furthest from 0 of all hours, with its sign."""
    hours = run.premium(market)
    hours = hours[(hours.index - _HOUR >= start) & (hours.index <= end)] if len(hours) else hours
    return float(hours.iloc[hours.abs().argmax()]) if len(hours) else np.nan


def _depth(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    """Median of what is bid within `recording.depth_bps` of the mid, currency."""
    return float(run.window(market, start, end)["bid_depth"].median())


def _hashprice(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    miners, window = run.miners(), run.window(market, start, end)
    if not miners or window.empty:
        return np.nan
    return hashprice(float(window["mid"].mean()), miners["difficulty"], miners["subsidy"])


def _liquidated_usd(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    """At the marks at which it was found that they had to be closed."""
    rows = run.liquidated(market, start, end)
    return np.nan if rows is None else float(rows["usd"].sum())


def _liquidated_accounts(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    rows = run.liquidated(market, start, end)
    return np.nan if rows is None else float(rows["account"].nunique())


def _peak_usd(minutes: int) -> Measure:
    """Most that was liquidated within so many minutes, which begin with any."""

    def peak(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
        rows = run.liquidated(market, start, end)
        if rows is None:
            return np.nan
        each = rows.groupby(rows["time"].dt.floor("min"))["usd"].sum().rolling(f"{minutes}min").sum()
        return float(each.max()) if len(each) else 0.0

    return peak


def _long_share(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    """Of what was liquidated, by notional."""
    rows = run.liquidated(market, start, end)
    if rows is None or rows.empty:
        return np.nan
    return float(rows["usd"][rows["closed"] == "long"].sum() / rows["usd"].sum())


def _deleveraged_usd(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    rows = run.forced(market, start, end, "deleveraged")
    return np.nan if rows is None else float(rows["usd"].sum())


def _deleveraged_share(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    """Of all positions that accounts lost, those whose other side was deleveraged."""
    away, total = (take(run, market, start, end) for take in (_deleveraged_usd, _liquidated_usd))
    return away / total if total > 0 else np.nan


def _deleveraged_after(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    """Seconds from the first liquidation of the window to the first deleveraging; not a number where there is none."""
    first, forced = run.liquidated(market, start, end), run.forced(market, start, end, "deleveraged")
    if first is None or forced is None or first.empty or forced.empty:
        return np.nan
    return float((forced["time"].min() - first["time"].min()).total_seconds())


def _under_zero(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame | None:
    """Positions that were lost at a mark beyond their bankruptcy price, and by how much their accounts were `under` zero at it."""
    rows = run.liquidated(market, start, end)
    if rows is None:
        return None
    beyond = (rows["bankruptcy_price"] - rows["mark"]) * np.where(rows["closed"] == "long", 1.0, -1.0)
    rows = rows.assign(under=beyond * rows["quantity"])
    return rows[rows["under"] > 0]


def _under_zero_usd(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    rows = _under_zero(run, market, start, end)
    return np.nan if rows is None else float(rows["under"].sum())


def _under_zero_accounts(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    rows = _under_zero(run, market, start, end)
    return np.nan if rows is None else float(rows["account"].nunique())


def _open_interest(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    """Of the last bar that is over at the end of the window, at its mark."""
    window = run.window(market, min(start, end - pd.Timedelta(hours=1)), end)
    return float((window["open_interest"] * window["mark"]).iloc[-1]) if len(window) else np.nan


def _funding_sign(run: Taken, market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    """Sign of the mean of the running rate."""
    return float(np.sign(run.window(market, start, end)["funding"].mean()))


def _risk_reversal(run: Taken, _market: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    return run.gauge("risk_reversal", start, end)


MEASURES: Mapping[str, Measure] = {
    "price": _price,
    "return": _return,
    "low": _low,
    "high": _high,
    "drawdown": _drawdown,
    "spread": _spread,
    "depth": _depth,
    "premium": _premium,
    "hashprice": _hashprice,
    "liquidated_usd": _liquidated_usd,
    "liquidated_accounts": _liquidated_accounts,
    "liquidated_usd_1min": _peak_usd(1),
    "liquidated_usd_40min": _peak_usd(40),
    "liquidated_long_share": _long_share,
    "deleveraged_usd": _deleveraged_usd,
    "deleveraged_share": _deleveraged_share,
    "deleveraged_after": _deleveraged_after,
    "under_zero_usd": _under_zero_usd,
    "under_zero_accounts": _under_zero_accounts,
    "open_interest": _open_interest,
    "funding_sign": _funding_sign,
    "risk_reversal": _risk_reversal,
}
"""What an observations file may name in its column `measure`."""
