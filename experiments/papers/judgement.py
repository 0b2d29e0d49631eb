"""The reference values of a paper, read from its table, and the verdict on what was measured."""

import csv
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from abm.exchange.description import Frozen
from experiments.papers import Estimate, Measured, Paper, Parameters

QUICK_ERRORS = 4.0
"""Standard errors by which `--quick` widens a tolerance that does not count in them."""


class Reference(Frozen):
    """One row of a `reference.csv`."""

    quantity: str
    value: float
    kind: Literal["exact", "printed", "ensemble"] = Field(description="closed form, in the paper, our own Monte Carlo")
    tolerance: float | None = Field(None, ge=0, description="none = reported beside the reference, no more")
    tolerance_kind: Literal["absolute", "relative", "standard errors"] = "absolute"
    gate: Literal["hard", "soft"] = Field("hard", description="whether the command fails where the row does")
    source: str


class Row(NamedTuple):
    """One line of the table: what should be, what is, and whether that will do. None: there is nothing to hold it against."""

    quantity: str
    reference: float | None
    measured: float
    error: float
    tolerance: float | None
    passed: bool | None
    hard: bool
    kind: str
    source: str

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values, for JSON; what is not a finite number is None."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in self._asdict().items()
        }


def read(path: Path) -> dict[str, Reference]:
    """The rows of a `reference.csv` by quantity. Lines that start with # are comments.

    Raises:
        ValueError: a row is wrong, or a quantity stands twice.
    """
    rows: dict[str, Reference] = {}
    with path.open(newline="", encoding="utf-8") as lines:
        for record in csv.DictReader(line for line in lines if not line.startswith("#")):
            row = Reference.model_validate({key: value for key, value in record.items() if value})
            if row.quantity in rows:
                raise ValueError(f"{path}: {row.quantity!r} stands twice")
            rows[row.quantity] = row
    return rows


def judge(paper: Paper, config: Parameters, measured: Measured, quick: bool = False) -> list[Row]:
    """Hold what a model came to against the paper.

    Where parameters were moved, its table no longer applies: what the model can compute exactly takes its place, at the tolerance of the row of that
    name, or of the one that differs from it in numbers only. The rest is reported without a verdict.
    """
    table = read(paper.folder / "reference.csv")
    if config.moved:
        exact: Mapping[str, float] = getattr(paper.model, "exact", lambda _: {})(config)
        wanted = {name: _moved(name, exact[name], table) for name in measured.estimates if name in exact}
    else:
        wanted = table
    names = [*measured.estimates, *(name for name in wanted if name not in measured.estimates)]
    return [_row(name, wanted.get(name), measured.estimates.get(name), quick) for name in names]


def _moved(name: str, value: float, table: Mapping[str, Reference]) -> Reference:
    likeness = {re.sub(r"[\d.]+", "#", each): row for each, row in reversed(list(table.items()))}
    like = table.get(name) or likeness.get(re.sub(r"[\d.]+", "#", name))
    changes = {"quantity": name, "value": value, "kind": "exact", "source": "the model's own closed form"}
    if like is None:
        return Reference.model_validate(changes)
    return like.model_copy(update=changes)


def _row(name: str, wanted: Reference | None, found: Estimate | None, quick: bool) -> Row:
    value, error = found if found is not None else Estimate(math.nan)
    if wanted is None:
        return Row(name, None, value, error, None, None, False, "", "")
    tolerance = passed = None
    if wanted.tolerance is not None:
        scale = {"absolute": 1.0, "relative": abs(wanted.value), "standard errors": error}[wanted.tolerance_kind]
        tolerance = wanted.tolerance * scale
        if quick and wanted.tolerance_kind != "standard errors":
            tolerance += QUICK_ERRORS * error
        passed = abs(value - wanted.value) <= tolerance  # a quantity that was not measured is no number, and fails
    return Row(name, wanted.value, value, error, tolerance, passed, wanted.gate == "hard", wanted.kind, wanted.source)
