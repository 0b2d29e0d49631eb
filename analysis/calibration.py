"""What a calibration minimises, and how far the observations pin its parameters down.

A moment of a trial is the median over its seeds; its misfit is counted in half widths of the observation's bounds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import f

Floats = npt.NDArray[np.float64]

UNIFORM = 12.0
"""One over the variance of a uniform law over a range of 1: what is known of a parameter, of which only the range is."""
LEVEL = 0.99
"""Quantile of what noise alone would do, beyond which an effect is one."""


@dataclass(frozen=True)
class Target:
    """An observation that is fitted."""

    observation: str
    observed: float
    low: float
    high: float

    @property
    def scale(self) -> float:
        """Half the width of its bounds."""
        return (self.high - self.low) / 2.0


@dataclass(frozen=True)
class Parameter:
    """A number that is varied between two bounds; its share is 0 at the lower and 1 at the upper, by logarithms where `log`."""

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    def value(self, share: float) -> float:
        """The number at a share of the range, rounded where it must be whole."""
        if self.log:
            found = self.low * (self.high / self.low) ** share
        else:
            found = self.low + (self.high - self.low) * share
        found = min(max(found, self.low), self.high)
        return float(round(found)) if self.whole else found

    def share(self, value: float) -> float:
        """Where in the range a number lies."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def medians(targets: Sequence[Target], runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What a trial says of each target: the median over its runs, not a number where one of them says nothing."""
    return {
        target.observation: float(np.median([run.get(target.observation, np.nan) for run in runs]))
        for target in targets
    }


def terms(targets: Sequence[Target], moments: Mapping[str, float], bound: float) -> dict[str, float]:
    """By target the square x² of the distance between moment and observation in half widths, as x² / (1 + x² / bound).

    Far out this comes near `bound` and still says which of two is nearer (Geman and McClure 1985). Where there is no moment it is `bound`.
    """
    found = {}
    for target in targets:
        square = ((moments[target.observation] - target.observed) / target.scale) ** 2
        found[target.observation] = bound if math.isnan(square) else square / (1.0 + square / bound)
    return found


# ------------------------------------------------------------------------------------------------------ identifiability


@dataclass(frozen=True)
class Precision:
    """How well a parameter is known by the targets, beside its range."""

    name: str
    error: float
    """Its standard error, as a share of the range; at most that of a uniform law, 0.29."""
    told: float
    """Share of the uniform law's variance that the targets take away: 0 nothing is learnt, 1 all."""

    @property
    def identified(self) -> bool:
        """Whether the targets say more of it than its range does."""
        return self.told >= 0.5


@dataclass(frozen=True)
class Direction:
    """A way to move the parameters together of which the targets say less than the ranges do."""

    weights: Mapping[str, float]
    """By parameter, shares of the ranges; their squares sum to 1."""
    told: float


def identifiability(
    names: Sequence[str], derivatives: Floats, noise: Floats
) -> tuple[list[Precision], list[Direction]]:
    """Local identifiability from the derivatives of the moments: the curvature JᵀWJ of the loss, and what it leaves open.

    Moments have the error of their observation (1 in half widths) and that of their seeds: W = 1 / (1 + noise). A derivative is the mean over
    seeds; its own error, of which there is one for each target, is taken from how the seeds differ. Along an eigenvector whose curvature
    noise alone could make (F test, `LEVEL`) there is none; from the others what noise adds is subtracted. What is known beforehand is that
    each parameter lies in its range (`UNIFORM`).

    Args:
        names: The P parameters.
        derivatives: (S seeds, T targets, P parameters), change of a moment in half widths over the whole range of a parameter. Not a number
            where a run failed.
        noise: (T) variance of the median over the seeds at the best, in squared half widths; 0 where there is one seed.

    Returns:
        The precision of each parameter, and the directions that are not determined, the least first.
    """
    seeds = np.sum(~np.isnan(derivatives), axis=0)
    mean = np.nansum(derivatives, axis=0) / np.maximum(seeds, 1)
    deviations = np.where(np.isnan(derivatives), 0.0, derivatives - mean)
    freedom = np.sum(np.maximum(seeds - 1, 0), axis=1)
    spread = np.sum(deviations**2, axis=(0, 2)) / np.maximum(freedom, 1)
    variance = spread[:, None] / np.maximum(seeds, 1)
    weights = 1.0 / (1.0 + noise)
    values, vectors = np.linalg.eigh((mean.T * weights) @ mean)
    by_noise = (weights @ variance) @ vectors**2
    told = freedom > 0  # a target that no run covers says nothing of the noise, nor does one seed alone
    limit = f.ppf(LEVEL, told.sum(), freedom[told].min()) if told.any() else f.ppf(LEVEL, len(noise), 1)
    values = np.where(values > limit * by_noise, np.maximum(values - by_noise, 0.0), 0.0)
    covariance = (vectors / (values + UNIFORM)) @ vectors.T
    precisions = [
        Precision(name, float(np.sqrt(variance)), float(1.0 - UNIFORM * variance))
        for name, variance in zip(names, np.diag(covariance), strict=True)
    ]
    open_ = [
        Direction(
            dict(zip(names, (vector * np.sign(vector[np.abs(vector).argmax()])).tolist(), strict=True)),
            float(value / (value + UNIFORM)),
        )
        for value, vector in zip(values, vectors.T, strict=True)
        if value < UNIFORM
    ]
    return precisions, open_
