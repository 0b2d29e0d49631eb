"""How numbers and verdicts are written, in the terminal and in reports alike."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.compare import Row


def number(value: float, unit: str, sign: str = "") -> str:
    """A number for a table: fractions (unit 1) in per cent, large ones in millions and milliards, what is none as a dash.

    Args:
        value: The number.
        unit: Its unit.
        sign: `+` to write that of positive numbers too.
    """
    if value != value:
        return "-"
    if unit == "1":
        return f"{value:{sign}.2%}"
    for size, letter in ((1e9, " bn"), (1e6, " m")):
        if abs(value) >= size:
            return f"{value / size:{sign},.2f}{letter}"
    return f"{value:{sign},.0f}" if abs(value) >= 1000 else f"{value:{sign},.2f}"


def strayed_text(premiums: Mapping[str, float]) -> str:
    """One sentence about instruments that have left their index (`analysis.compare.strayed`), or nothing."""
    named = ", ".join(f"{name} {premium:+.1%}" for name, premium in premiums.items())
    text = f"Far from its index in the mean of an hour: {named}. What was liquidated there, and what hangs on it, tells nothing."
    return text if premiums else ""


# ----------------------------------------------------------------------------------------- a comparison with observations


UNDECIDED = "~"
"""Stands at a verdict that other seeds might turn."""
UNDECIDED_TEXT = f"{UNDECIDED}: the 90 % interval of the median itself reaches across a bound, so that other seeds may say otherwise."
"""Says what that means."""


def comparison_cells(row: "Row", runs: int = 1) -> dict[str, str]:
    """A row of a comparison, by the titles of its columns; of several runs the median, and the interval of nine tenths of them."""
    several = {"of nine in ten": f"{_compared(row.least, row.unit)}..{_compared(row.most, row.unit)}"}
    return {
        "observation": row.observation,
        "observed": _compared(row.observed, row.unit),
        "bounds": _bounds(row),
        "simulated": _compared(row.simulated, row.unit),
        **(several if runs > 1 else {}),
        "gap": _compared(row.gap, row.unit, "+"),
        "role": row.role,
        "": _within(row),
    }


def _compared(value: float, unit: str, sign: str = "") -> str:
    return f"{value:+.1%}" if unit == "1" and value == value else number(value, unit, sign)


def _bounds(row: "Row") -> str:
    low, high = (_compared(value, row.unit) for value in (row.low, row.high))
    if row.low == -float("inf"):
        return f"up to {high}"
    return f"from {low}" if row.high == float("inf") else f"{low}..{high}"


def _within(row: "Row") -> str:
    if row.role == "input":
        return "put in"
    said = {True: "inside", False: "outside", None: "not covered" if row.simulated != row.simulated else ""}[row.inside]
    return f"{said} {UNDECIDED}" if row.decided is False else said


# --------------------------------------------------------------------------------------------------------- stylised facts


def fact_cells(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of the stylised facts, by the titles of its columns; `inside` may be pandas' NA, which is neither true nor false."""
    return {
        "fact": row["fact"],
        "statistic": row["statistic"],
        "value": _short(row["value"]),
        "90 % interval": "" if math.isnan(row["low"]) else f"[{_short(row['low'])}, {_short(row['high'])}]",
        "real": _short(row["reference"]),
        "band": _band(row["band_low"], row["band_high"]),
        "": {"True": "inside", "False": "OUTSIDE"}.get(str(row["inside"]), ""),
    }


def _short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}"


def _band(low: float, high: float) -> str:
    if math.isnan(low):
        return "" if math.isnan(high) else f"up to {_short(high)}"
    return f"from {_short(low)}" if math.isnan(high) else f"{_short(low)} to {_short(high)}"
