"""One bank of a random network fails, and its creditors fail whose capital that exceeds. The README says how and why so."""

from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from scipy.optimize import brentq, minimize_scalar
from scipy.sparse import csr_array
from scipy.stats import binom, poisson

from abm.contagion.measures import gai_kapadia
from abm.random import stream
from experiments.papers import Estimate, Measured, Parameters, Progress

Floats = npt.NDArray[np.float64]

WIDE = 100.0
"""Mean degree up to which the end of the window is looked for."""
VULNERABLE = "debtors of whom one is enough"
OPENS, CLOSES = "window opens at z", "window closes at z"


class Config(Parameters):
    """The banks and their network, per unit of a bank's assets."""

    QUICK_RUNS: ClassVar[int] = 400

    runs: int = Field(5000, ge=2, le=1_000_000, description="networks at each mean degree, one failure in each")
    banks: int = Field(1000, ge=2, le=100_000, description="banks")
    degrees: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(
        (1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0), min_length=1, description="mean numbers of debtors of a bank: z"
    )
    interbank_assets: float = Field(
        0.2, gt=0, le=1, description="part of its assets that a bank with debtors lends to them, evenly"
    )
    capital: float = Field(0.04, gt=0, le=1, description="loss that a bank can bear, part of its assets")
    recovery: float = Field(0.0, ge=0, lt=1, description="fraction of a claim on a failed bank that is paid")
    contagion: float = Field(0.05, gt=0, lt=1, description="fraction of banks; where more fail it is contagion")
    further: int = Field(
        50_000,
        ge=0,
        le=10**7,
        description="networks drawn at most besides runs, where no contagion was seen, to see one",
    )

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if max(self.degrees) > self.banks - 1:
            raise ValueError("degrees must be below the number of banks; lower them or raise banks")
        return self

    @property
    def vulnerable(self) -> int:
        """Debtors up to which the failure of one costs more than the capital."""
        lost, capital, kept = (Fraction(str(x)) for x in (self.interbank_assets, self.capital, self.recovery))
        return ceil(lost * (1 - kept) / capital) - 1


# ------------------------------------------------------------------------------------------------------- closed forms


def window(vulnerable: int) -> Mapping[str, float]:
    """Mean degrees between which failure spreads in networks without end, z P(Poisson(z) <= vulnerable - 1) > 1; empty where there are none."""

    def above(z: float) -> float:
        return z * float(poisson.cdf(vulnerable - 1, z)) - 1.0

    top = float(minimize_scalar(lambda z: -above(z), bounds=(0.0, WIDE), method="bounded").x)
    if above(top) <= 0 or above(WIDE) > 0:
        return {}
    return {OPENS: float(brentq(above, 0.0, top)), CLOSES: float(brentq(above, top, WIDE))}


def exact(config: Config) -> Mapping[str, float]:
    """Who is vulnerable, the window, and the mean number of banks that the first failure brings down itself."""
    found = {VULNERABLE: float(config.vulnerable), **window(config.vulnerable)}
    for z in config.degrees:
        chance = z / (config.banks - 1)
        # A creditor fails if it has few enough other debtors
        found[first(z)] = z * float(binom.cdf(config.vulnerable - 1, config.banks - 2, chance))
    return found


def frequency(z: float) -> str:
    return f"frequency at z = {z:g}"


def extent(z: float) -> str:
    return f"extent at z = {z:g}"


def first(z: float) -> str:
    return f"first round at z = {z:g}"


# -------------------------------------------------------------------------------------------------------- measurement


class Failures(NamedTuple):
    """What came of the first failures, one in each network."""

    extent: Floats
    """Fraction of banks that failed."""
    first: Floats
    """How many of them the first one brought down itself."""


def measure(config: Config, progress: Progress) -> Measured:
    """All estimates; what is drawn are the failures at each mean degree."""
    vulnerable = _vulnerable(config)
    estimates = {VULNERABLE: Estimate(vulnerable)}
    estimates |= {name: Estimate(z) for name, z in window(vulnerable).items()}
    drawn: dict[float, Failures] = {}
    for k, z in enumerate(config.degrees):
        drawn[z] = spread(config, z)
        seen = drawn[z].extent[drawn[z].extent > config.contagion]
        counted = drawn[z].extent[: config.runs] > config.contagion
        estimates[frequency(z)] = Estimate.share(int(counted.sum()), config.runs)
        if len(seen):
            estimates[extent(z)] = Estimate.mean(seen)
        estimates[first(z)] = Estimate.mean(drawn[z].first[: config.runs])
        progress(k + 1, len(config.degrees))
    return Measured(estimates, drawn)


def _vulnerable(config: Config) -> int:
    """The same as `Config.vulnerable`, tried out: a creditor lends to ever more debtors, of whom one fails."""
    for debtors in range(1, config.banks):
        owed = [[0.0, config.interbank_assets / debtors], [0.0, 0.0]]
        if gai_kapadia(owed, 0, config.capital, recovery=config.recovery).extent < 1:
            return debtors - 1
    return config.banks - 1


def spread(config: Config, z: float) -> Failures:
    """As many networks as there are runs, and more until there was contagion; in each one bank fails at random."""
    links, luck = stream(config.seed, f"degree {z:g}", "network"), stream(config.seed, f"degree {z:g}", "first")
    reached, brought = [], []
    seen = False
    while len(reached) < config.runs or (not seen and len(reached) < config.runs + config.further):
        cascade = gai_kapadia(
            network(config, z, links), int(luck.integers(config.banks)), config.capital, recovery=config.recovery
        )
        reached.append(cascade.extent)
        brought.append(np.count_nonzero(cascade.rounds == 1))
        seen = seen or cascade.extent > config.contagion
    return Failures(np.array(reached), np.array(brought, np.float64))


def network(config: Config, z: float, links: np.random.Generator) -> csr_array:
    """Who owes whom: each bank to each other with the same chance, and each bank lends the same in all, evenly."""
    n = config.banks
    pairs = links.choice(
        n * (n - 1), links.binomial(n * (n - 1), z / (n - 1)), replace=False, shuffle=False
    )  # numbers of ordered pairs, those with itself left out
    debtor, creditor = np.divmod(pairs, n - 1)
    creditor += creditor >= debtor
    claims = config.interbank_assets / np.bincount(creditor, minlength=n)[creditor]
    return csr_array((claims, (debtor, creditor)), shape=(n, n))
