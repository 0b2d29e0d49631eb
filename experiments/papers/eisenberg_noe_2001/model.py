"""A small network cleared in three ways, and a great many random ones. The README says how and why so."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, ClassVar, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, model_validator

from abm.clearing.network import Method
from abm.contagion.measures import eisenberg_noe
from abm.random import stream
from experiments.papers import Estimate, Measured, Parameters, Progress

Floats = npt.NDArray[np.float64]
Amount = Annotated[float, Field(ge=0, le=1e12)]

METHODS: tuple[Method, ...] = get_args(Method)
APART = "random networks: the three ways apart at most"
BROKEN = "random networks: off the clearing condition at most"
LOST = "random networks: value lost or made at most"
DEFAULTS = "random networks: fraction of nodes in default"


class Config(Parameters):
    """The example, and the random networks."""

    QUICK_RUNS: ClassVar[int] = 200

    runs: int = Field(1000, ge=1, le=1_000_000, description="random networks")
    liabilities: tuple[tuple[Amount, ...], ...] = Field(
        ((0, 10, 0, 0, 2), (0, 0, 9, 0, 3), (0, 0, 0, 8, 3), (1, 0, 0, 0, 6), (2, 2, 2, 2, 0)),
        min_length=1,
        max_length=100,
        description="what the node of the row owes that of the column: L",
    )
    endowment: tuple[Amount, ...] = Field((1, 3, 4, 6, 4), description="what each node has besides its claims: e")
    nodes: int = Field(20, ge=1, le=500, description="nodes of a random network at most")
    means: float = Field(2.0, gt=0, le=1e6, description="mean endowment at most, in units of a mean debt")

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        n = len(self.endowment)
        if len(self.liabilities) != n or any(len(row) != n for row in self.liabilities):
            raise ValueError("liabilities must have a row and a column for each number of endowment")
        if any(row[k] for k, row in enumerate(self.liabilities)):
            raise ValueError("liabilities: a node owes to itself; leave the diagonal 0")
        return self


# ------------------------------------------------------------------------------------------------------- closed form


def exact(config: Config) -> Mapping[str, float]:
    """Fictitious default in fractions, which round nothing: payments, equities and rounds of default of the example."""
    everybody = range(len(config.endowment))
    owed = [[Fraction(str(x)) for x in row] for row in config.liabilities]
    means, total = [Fraction(str(x)) for x in config.endowment], [sum(row) for row in owed]
    share = [[owed[i][j] / total[i] if total[i] else Fraction(0) for j in everybody] for i in everybody]
    pays, rounds = list(total), [0 for _ in everybody]
    for number in range(1, len(means) + 2):
        has = [means[i] + sum(share[j][i] * pays[j] for j in everybody) for i in everybody]
        failing = [i for i in everybody if has[i] < total[i] and not rounds[i]]
        if not failing:
            break
        for i in failing:
            rounds[i] = number
        bad = [i for i in everybody if rounds[i]]
        sure = [means[i] + sum(share[j][i] * total[j] for j in everybody if not rounds[j]) for i in bad]
        for i, paid in zip(bad, _solved([[(i == j) - share[j][i] for j in bad] for i in bad], sure), strict=True):
            pays[i] = paid
    found = {APART: 0.0, BROKEN: 0.0, LOST: 0.0}
    for i in everybody:
        found |= dict(zip(names(i), (float(pays[i]), float(has[i] - pays[i]), float(rounds[i])), strict=True))
    return found


def names(node: int) -> tuple[str, str, str]:
    return f"payment of node {node}", f"equity of node {node}", f"round of default of node {node}"


def _solved(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """Gauss and Jordan, in fractions."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for k in range(len(rows)):
        pivot = next(i for i in range(k, len(rows)) if rows[i][k])
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [value / rows[k][k] for value in rows[k]]
        for i, row in enumerate(rows):
            if i != k and row[k]:
                rows[i] = [a - row[k] * b for a, b in zip(row, rows[k], strict=True)]
    return [row[-1] for row in rows]


# ------------------------------------------------------------------------------------------------------- measurement


class Network(NamedTuple):
    """Who owes what to whom, and has what."""

    liabilities: Floats
    endowment: Floats


def measure(config: Config, progress: Progress) -> Measured:
    """All estimates; what is drawn is the example, cleared."""
    example = eisenberg_noe(config.liabilities, config.endowment)
    estimates = {
        name: Estimate(float(value))
        for node, row in example.iterrows()
        for name, value in zip(names(int(str(node))), row[["payments", "equity", "round"]], strict=True)
    }
    found = np.zeros((config.runs, 3))
    defaults, everybody = 0, 0
    for run, network in enumerate(networks(config)):
        cleared = [eisenberg_noe(*network, method=method) for method in METHODS]
        found[run] = faults(network, cleared)
        defaults += int((cleared[0]["round"] > 0).sum())
        everybody += len(network.endowment)
        progress(run + 1, config.runs)
    worst = found.max(axis=0)
    estimates |= {name: Estimate(float(value)) for name, value in zip((APART, BROKEN, LOST), worst, strict=True)}
    return Measured(estimates | {DEFAULTS: Estimate.share(defaults, everybody)}, example)


def networks(config: Config) -> Iterator[Network]:
    """Random ones: small or large, sparse or dense, poor or rich; some nodes owe nothing, some have nothing."""
    luck = stream(config.seed, "random networks", "debts and means")
    for _ in range(config.runs):
        n = int(luck.integers(1, config.nodes + 1))
        debts = luck.exponential(1.0, (n, n)) * (luck.random((n, n)) < luck.random())
        np.fill_diagonal(debts, 0.0)
        yield Network(debts, luck.exponential(config.means * luck.random(), n) * (luck.random(n) < 0.8))


def faults(network: Network, cleared: Sequence[pd.DataFrame]) -> tuple[float, float, float]:
    """How far payments lie apart, how far from p = min(pbar, e + Pi' p), and how far equities from what there was; of the greatest obligation."""
    pays = np.array([table["payments"] for table in cleared])
    equities = np.array([table["equity"].sum() for table in cleared])
    total = network.liabilities.sum(axis=1)
    shares = network.liabilities / np.where(total > 0, total, 1.0)[:, None]
    off = np.abs(np.minimum(total, network.endowment + pays @ shares) - pays).max()
    lost = np.abs(equities - network.endowment.sum()).max()
    scale = float(total.max()) or 1.0
    return float(np.ptp(pays, axis=0).max()) / scale, float(off) / scale, float(lost) / scale
