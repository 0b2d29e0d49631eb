"""What a report takes of a run: of the one that is shown in full everything, of each of several a few numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from abm.contagion.chain import Forest, branches
from abm.record import LOST, Result
from analysis.attribution import Attribution, attribution
from analysis.compare import INTERVAL, measured, strayed
from analysis.measures import whole_run
from analysis.wording import number


class Shown:
    """A run, and what is computed of it when it is asked for."""

    def __init__(self, result: Result, manifest: Mapping[str, Any]) -> None:
        """Show a run.

        Args:
            result: The run.
            manifest: Of its folder; that of the result alone where it has none.
        """
        self.result, self.manifest = result, manifest
        self.summary, self.scenario = result.summary, result.scenario
        self.first = next(iter(result.summary["instruments"]))
        """The instrument that is looked at most."""
        self.interval = pd.Timedelta(seconds=result.scenario["recording"]["interval"])

    @cached_property
    def mids(self) -> "pd.Series[float]":
        """The mid of the first instrument, by the time (UTC) at which each bar ends; the first one at the start."""
        bars = self.result.bars[self.result.bars["instrument"] == self.first]
        times = pd.DatetimeIndex([pd.Timestamp(self.summary["start"]), *(bars["time"] + self.interval)])
        return pd.Series([self.summary["instruments"][self.first]["open"], *bars["mid"]], times, name="mid")

    @cached_property
    def numbers(self) -> dict[str, float]:
        """What the whole run comes to: `analysis.measures.whole_run`."""
        return whole_run(self.result)

    @cached_property
    def moved(self) -> Attribution:
        """Who moved that mid."""
        return attribution(self.result, self.first)

    @cached_property
    def stages(self) -> "pd.DataFrame | str":
        """When each stage set in, or why that cannot be said."""
        try:
            return self.result.stages()
        except ValueError as why:
            return str(why)

    @cached_property
    def forest(self) -> Forest:
        """Which liquidation set off which."""
        return self.result.causes()

    @cached_property
    def trees(self) -> pd.DataFrame:
        """Its trees, largest first."""
        return branches(self.forest)

    @cached_property
    def closed(self) -> pd.DataFrame:
        """Positions that accounts lost, with their `notional` at the mark (currency) and `what` became of each."""
        rows = self.result.liquidations
        rows = rows[rows["what"].isin(LOST)]
        return rows.assign(notional=rows["quantity"] * rows["mark"])


@dataclass(frozen=True)
class Gist:
    """A few numbers of one run among several."""

    seed: int
    event_log_hash: str
    audit_passed: bool
    numbers: Mapping[str, float]
    """`analysis.measures.whole_run`, and how many liquidations, trees and generations there were."""
    observed: Mapping[str, float]
    """What it says of each observation."""
    onsets: Mapping[str, pd.Timestamp] | None
    """When each stage set in, NaT where it did not; None where that cannot be said."""
    parts: "pd.Series[float]"
    """What moved the mid of the first instrument, by kind and reason."""
    mids: "pd.Series[float]"
    """The mid of the first instrument, by time."""

    @property
    def strayed(self) -> dict[str, float]:
        """Instruments that have left their index, with their premiums."""
        end = ".premium"
        return strayed({name.removesuffix(end): value for name, value in self.numbers.items() if name.endswith(end)})


def gist(shown: Shown) -> Gist:
    """The numbers of a run."""
    trees = shown.trees
    cascade = {
        "liquidations": float(trees["liquidations"].sum()),
        "trees": float(len(trees)),
        "generations": float(trees["depth"].max()) if len(trees) else 0.0,
    }
    onsets = (
        None
        if isinstance(shown.stages, str)
        else dict(zip(*(shown.stages[c] for c in ("stage", "onset")), strict=True))
    )
    return Gist(
        seed=shown.summary["seed"],
        event_log_hash=shown.summary["event_log_hash"],
        audit_passed=shown.result.audit.passed,
        numbers=shown.numbers | cascade,
        observed=measured(shown.result),
        onsets=onsets,
        parts=shown.moved.parts.set_index(["kind", "reason"])["change"],
        mids=shown.mids,
    )


def typical(gists: Sequence[Gist]) -> int:
    """Which of several runs has the median change of the first instrument's mid; the lower of two."""
    changes = [run.mids.iloc[-1] / run.mids.iloc[0] for run in gists]
    return int(np.argsort(changes, kind="stable")[(len(changes) - 1) // 2])


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, and the quantiles between which nine of ten lie, of the numbers among values."""
    known = [value for value in values if value == value]
    if not known:
        return (np.nan,) * 3
    low, middle, high = np.quantile(known, (INTERVAL[0], 0.5, INTERVAL[1])).tolist()
    return middle, low, high


def interval(values: Sequence[float], unit: str) -> str:
    """The same in words for a table."""
    middle, low, high = (number(value, unit) for value in spread(values))
    return middle if middle == "-" else f"{middle} [{low}, {high}]"
