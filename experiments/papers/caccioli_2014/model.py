"""A bank fails or an asset falls, and what banks hold in common spreads it. The README says how and why so."""

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from abm.contagion.measures import overlap_cascade
from abm.random import stream
from experiments.papers import Estimate, Measured, Parameters, Progress

Floats = npt.NDArray[np.float64]
Shock = Literal["bank", "asset"]
Degrees = tuple[Annotated[float, Field(gt=0)], ...]

ERRORS = 4.0
"""Standard errors by which a frequency must exceed another to be above it."""
WRONG = "directions that do not hold"


class Config(Parameters):
    """Banks and assets, per unit of a bank's assets."""

    QUICK_RUNS: ClassVar[int] = 250

    runs: int = Field(2000, ge=2, le=1_000_000, description="networks at each mean degree and shock")
    banks: int = Field(200, ge=2, le=20_000, description="banks: N")
    assets: int = Field(200, ge=2, le=20_000, description="assets: M")
    bank_degrees: Degrees = Field(
        (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 20.0),
        description="mean numbers of assets that a bank holds, rising: mu_b, where a bank fails",
    )
    asset_degrees: Degrees = Field((1.0, 4.0, 8.0, 10.0, 12.0, 15.0), description="the same, where an asset falls")
    invested: float = Field(
        0.8, gt=0, le=1, description="part of a bank's assets that it spreads evenly; the rest is cash"
    )
    equity: float = Field(0.04, gt=0, le=1, description="loss that a bank can bear, part of its assets")
    impact: float = Field(1.0536, ge=0, le=100, description="alpha: prices are exp(-alpha x), x the fraction sold")
    fall: float = Field(0.35, gt=0, le=1, description="part of its price by which the asset falls")
    contagion: float = Field(0.05, gt=0, lt=1, description="fraction of banks; where more fail it is contagion")

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        for name in ("bank_degrees", "asset_degrees"):
            degrees = getattr(self, name)
            if any(low >= high for low, high in pairwise(degrees)):
                raise ValueError(f"{name} must rise")
            if degrees and degrees[-1] > self.assets:
                raise ValueError(f"{name} must be at most the number of assets; lower them or raise assets")
        return self

    @property
    def degrees(self) -> dict[Shock, Degrees]:
        """Mean degrees by shock."""
        return {"bank": self.bank_degrees, "asset": self.asset_degrees}


def frequency(shock: Shock, degree: float) -> str:
    return f"frequency, {shock} shock, mu_b = {degree:g}"


def extent(shock: Shock, degree: float) -> str:
    return f"extent, {shock} shock, mu_b = {degree:g}"


def measure(config: Config, progress: Progress) -> Measured:
    """All estimates; what is drawn are the fractions of banks that failed, by shock and mean degree."""
    drawn: dict[tuple[Shock, float], Floats] = {}
    estimates: dict[str, Estimate] = {}
    work = [(shock, degree) for shock, degrees in config.degrees.items() for degree in degrees]
    for k, (shock, degree) in enumerate(work):
        failed = drawn[shock, degree] = spread(config, shock, degree)
        seen = failed[failed > config.contagion]
        estimates[frequency(shock, degree)] = Estimate.share(len(seen), config.runs)
        if len(seen) > 1:
            estimates[extent(shock, degree)] = Estimate.mean(seen)
        progress(k + 1, len(work))
    estimates[WRONG] = Estimate(len(wrong(config, estimates)))
    return Measured(estimates, drawn)


def wrong(config: Config, estimates: dict[str, Estimate]) -> list[str]:
    """What contradicts the paper: frequency must rise with the mean degree to one peak and fall behind it, and that at both ends."""
    found = []
    for shock, degrees in config.degrees.items():
        shares = [estimates[frequency(shock, degree)] for degree in degrees]
        if len(shares) < 3:
            continue
        peak = int(np.argmax([share.value for share in shares]))
        for k in range(1, len(shares)):
            high, low = (shares[k], shares[k - 1]) if k <= peak else (shares[k - 1], shares[k])
            if _above(low, high):
                found.append(f"{shock}: {degrees[k - 1]:g} to {degrees[k]:g}")
        found += [f"{shock}: no peak at {degrees[end]:g}" for end in (0, -1) if not _above(shares[peak], shares[end])]
    return found


def _above(one: Estimate, other: Estimate) -> bool:
    return one.value - other.value > ERRORS * float(np.hypot(one.error, other.error))


def spread(config: Config, shock: Shock, degree: float) -> Floats:
    """Fraction of the banks that failed in each of the networks, in which one bank fails or one asset falls at random."""
    links, luck = (stream(config.seed, f"{shock} {degree:g}", purpose) for purpose in ("network", "first"))
    failed = np.empty(config.runs)
    for run in range(config.runs):
        held = holdings(config, degree, links)
        if shock == "bank":
            cascade = overlap_cascade(
                held, config.equity, shocked=int(luck.integers(config.banks)), impact=config.impact
            )
        else:
            falls = {int(luck.integers(config.assets)): config.fall}
            cascade = overlap_cascade(held, config.equity, devalued=falls, impact=config.impact)
        failed[run] = cascade.extent
    return failed


def holdings(config: Config, degree: float, links: np.random.Generator) -> Floats:
    """What each bank has of each asset: it holds each with the same chance, and all that it holds in equal parts; banks x assets."""
    held = links.random((config.banks, config.assets)) < degree / config.assets
    return config.invested * held / np.maximum(held.sum(axis=1, keepdims=True), 1)
