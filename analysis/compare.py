"""What a run says beside what was observed, with the role each observation plays: put in, fitted to, or predicted."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from abm.record import Result
from abm.scenario import ScenarioError, configs
from abm.world.mining import hashprice


@dataclass(frozen=True)
class Row:
    """One observation beside the run."""

    observation: str
    quantity: str
    unit: str
    observed: float
    low: float
    high: float
    simulated: float
    role: str
    note: str

    @property
    def inside(self) -> bool | None:
        """Whether the simulated value lies within the bounds of the observation; None where there is nothing to compare."""
        if np.isnan(self.simulated) or np.isnan(self.low) or np.isnan(self.high):
            return None
        return self.low <= self.simulated <= self.high

    @property
    def gap(self) -> float:
        """Simulated less observed, in the unit of the observation."""
        return self.simulated - self.observed

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values, for JSON; what is not a finite number is None."""
        numbers = {key: getattr(self, key) for key in ("observed", "low", "high", "simulated", "gap")}
        return {
            "observation": self.observation,
            "quantity": self.quantity,
            "unit": self.unit,
            **{key: float(value) if np.isfinite(value) else None for key, value in numbers.items()},
            "role": self.role,
            "inside": self.inside,
            "note": self.note,
        }


def read_observations(name: str) -> pd.DataFrame:
    """Observations by id, from a file in `configs/observations` or a path.

    Raises:
        ScenarioError: There is no such file.
    """
    path = next((p for p in (configs() / "observations" / name, Path(name)) if p.is_file()), None)
    if path is None:
        raise ScenarioError(f"observations: {name}: no such file in configs/observations")
    table = pd.read_csv(path, dtype={"source": str, "note": str}, keep_default_na=True)
    for column in ("from_utc", "to_utc"):
        table[column] = pd.to_datetime(table[column], utc=True)
    return table.set_index("id")


def compare(result: Result) -> list[Row]:
    """One row for each observation that the scenario names, in its order.

    A window that the run does not cover gives a simulated value that is not a number.
    """
    scenario = result.scenario
    if not scenario["compare"]:
        return []
    observations = read_observations(scenario["observations"])
    rows = []
    for comparison in scenario["compare"]:
        name = comparison["observation"]
        if name not in observations.index:
            raise ScenarioError(f"compare: {name} is not in {scenario['observations']}")
        seen = observations.loc[name]
        rows.append(
            Row(
                observation=name,
                quantity=str(seen["quantity"]),
                unit=str(seen["unit"]),
                observed=float(seen["value"]),
                low=float(seen["low"]) if pd.notna(seen["low"]) else -np.inf if pd.notna(seen["high"]) else np.nan,
                high=float(seen["high"]) if pd.notna(seen["high"]) else np.inf if pd.notna(seen["low"]) else np.nan,
                simulated=_measure(
                    comparison["measure"], result, comparison["instrument"], seen["from_utc"], seen["to_utc"]
                ),
                role=comparison["role"],
                note=comparison["note"],
            )
        )
    return rows


def _measure(measure: str, result: Result, instrument: str, start: pd.Timestamp, end: pd.Timestamp) -> float:
    bars = result.bars[result.bars["instrument"] == instrument]
    if bars.empty:
        return float("nan")
    interval = pd.Timedelta(seconds=result.scenario["recording"]["interval"])
    ends = bars["time"] + interval
    first, last = bars["time"].iloc[0], ends.iloc[-1]

    def price(when: pd.Timestamp) -> float:
        if not first <= when <= last:
            return float("nan")
        past = bars["mid"][ends <= when]
        return float(past.iloc[-1]) if len(past) else float(result.summary["instruments"][instrument]["open"])

    if measure == "price":
        return price(start)
    if measure == "return":
        return price(end) / price(start) - 1.0
    # An open end a minute before midnight is midnight.
    window = bars[(bars["time"] >= start) & (ends <= end.ceil("h"))]
    if window.empty or not (first <= start and end <= last):
        return float("nan")
    if measure == "low":
        return float(window["low"].min())
    if measure == "high":
        return float(window["high"].max())
    if measure == "hashprice":
        miners: Mapping[str, Any] = next((t for t in result.scenario["traders"].values() if t["kind"] == "miners"), {})
        if not miners:
            return float("nan")
        return hashprice(float(window["mid"].mean()), miners["difficulty"], miners["subsidy"])
    raise ValueError(f"unknown measure {measure!r}")
