"""The points of a sweep: grids, lists, and what is drawn between the ends of ranges."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from abm.scenario import ScenarioError
from experiments.sweep_spec import SAMPLED, Axis, Design

type Point = Mapping[str, Any]
"""By axis its value, or the name of its variant."""


@dataclass(frozen=True)
class Designed:
    """Points in their order, and what a manifest says of where they come from."""

    points: Sequence[Point]
    about: Mapping[str, Any]


def designed(design: Design, axes: Mapping[str, Axis], whole: frozenset[str]) -> Designed:
    """The points of a design.

    Args:
        design: Which.
        axes: What is varied, by name.
        whole: Names of axes whose ranges have whole numbers alone.

    Raises:
        ScenarioError: The axes do not fit the design.
    """
    about: dict[str, Any] = {"kind": design.kind}
    if design.kind in SAMPLED:
        shares, more = _drawn(design, axes)
        about |= more
        values = [_values(name, axis, shares[:, k], name in whole) for k, (name, axis) in enumerate(axes.items())]
        if design.kind == "morris":
            _check_levels(axes, values, design.levels)
        rows: Iterator[tuple[Any, ...]] = zip(*values, strict=True)
    else:
        listed = [_listed(name, axis, name in whole) for name, axis in axes.items()]
        rows = itertools.product(*listed) if design.kind == "grid" else _together(axes, listed)
    points = [dict(zip(axes, row, strict=True)) for row in rows]
    return Designed(points, about | {"points": len(points)})


def _listed(name: str, axis: Axis, whole: bool) -> Sequence[Any]:
    """The values of an axis in a grid or a list."""
    if axis.choices is not None:
        return axis.choices
    if axis.points is None:
        raise ScenarioError(
            f"vary.{name}.points is missing, such as 5: how many values from {axis.low:g} to {axis.high:g}"
        )
    values = _values(name, axis, np.linspace(0.0, 1.0, axis.points), whole)
    if len(set(values)) < len(values):
        raise ScenarioError(f"vary.{name}.points: there are not {axis.points} whole numbers there; give fewer points")
    return values


def _together(axes: Mapping[str, Axis], listed: Sequence[Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
    """The first values of all, then the second."""
    for name, values in zip(axes, listed, strict=True):
        if len(values) != len(listed[0]):
            first = next(iter(axes))
            raise ScenarioError(
                f"vary.{name} has {len(values)} values, and {first} {len(listed[0])}; in a list they go together, so give as many"
            )
    return zip(*listed, strict=True)


def _values(name: str, axis: Axis, shares: npt.NDArray[np.float64], whole: bool) -> list[Any]:
    """Values of an axis for shares of the way through it, from 0 to 1; of one with values each has an equal part of the way."""
    if axis.choices is not None:
        return [axis.choices[min(int(share * len(axis.choices)), len(axis.choices) - 1)] for share in shares]
    assert axis.low is not None and axis.high is not None
    low, high = (math.log(axis.low), math.log(axis.high)) if axis.log else (axis.low, axis.high)
    way = low + shares * (high - low)
    values = np.clip(np.exp(way) if axis.log else way, axis.low, axis.high)
    return [round(value) if whole else float(f"{value:.12g}") for value in values.tolist()]


# -------------------------------------------------------------------------------------------------------------- what is drawn


def _drawn(design: Design, axes: Mapping[str, Axis]) -> tuple[npt.NDArray[np.float64], dict[str, Any]]:
    """Shares of the ways through all axes, one row a point, and what is to be known of them."""
    n, k = design.samples or 0, len(axes)
    about: dict[str, Any] = {"samples": n, "seed": design.seed}
    if design.kind in ("latin", "sobol"):
        from scipy.stats import qmc

        sampler = qmc.LatinHypercube(k, rng=design.seed) if design.kind == "latin" else qmc.Sobol(k, rng=design.seed)
        return np.asarray(sampler.random(n)), about
    from SALib.sample import morris, sobol

    unit = {"num_vars": k, "names": list(axes), "bounds": [[0.0, 1.0]] * k}
    about["problem"] = {
        "num_vars": k,
        "names": list(axes),
        "bounds": [_bounds(name, axis) for name, axis in axes.items()],
    }
    about["log"] = [name for name, axis in axes.items() if axis.log]
    if design.kind == "morris":
        shares = morris.sample(unit, n, num_levels=design.levels, seed=design.seed)
        return shares, about | {"levels": design.levels}
    shares = sobol.sample(unit, n, calc_second_order=design.second_order, seed=design.seed)
    return shares, about | {"second_order": design.second_order}


def _bounds(name: str, axis: Axis) -> list[float]:
    if axis.low is None or axis.high is None:
        raise ScenarioError(
            f"vary.{name} has values, and saltelli and morris go between the ends of ranges; give from and to"
        )
    return [axis.low, axis.high]


def _check_levels(axes: Mapping[str, Axis], values: Sequence[Sequence[Any]], levels: int) -> None:
    """Refuse whole numbers of which two levels are the same one, so that a step would change nothing."""
    for name, column in zip(axes, values, strict=True):
        ends = _values(name, axes[name], np.linspace(0.0, 1.0, levels), isinstance(column[0], int))
        if len(set(ends)) < levels:
            raise ScenarioError(
                f"vary.{name} has fewer than {levels} whole numbers; give it a wider range, or fewer levels"
            )
