"""What each link of a chain adds: runs with and without it under the same random numbers, and Shapley values over all sets of links."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.shapley import (
    Coalition,
    Shares,
    exact,
    interactions,
    on_the_way,
    orders,
    sampled,
    standard_error,
    subsets,
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """Which sets of links are played."""

    links: tuple[str, ...]
    ways: tuple[tuple[str, ...], ...] | None
    """Orders in which links are added; None where every set is played."""
    coalitions: tuple[Coalition, ...]
    """The sets of links that are on: all, none, all but one, and then the rest."""

    @property
    def shares(self) -> bool:
        """Whether Shapley values come of it."""
        return self.ways is None or len(self.ways) > 0


def design(links: Sequence[str], permutations: int, rng: np.random.Generator) -> Design:
    """What to play for some number of orders; every set of links where that takes no more runs.

    Args:
        links: Names.
        permutations: Orders, an even number: one and its reverse. 0 for each link switched off alone, and nothing else.
        rng: Draws them.
    """
    n, whole = len(links), frozenset(links)
    first = [whole, frozenset(), *(whole - {link} for link in links)]
    if permutations and 2**n <= permutations * (n - 1) + 2:
        return Design(tuple(links), None, tuple(dict.fromkeys([*first, *subsets(links)])))
    ways = tuple(orders(links, permutations, rng)) if permutations else ()
    return Design(tuple(links), ways, tuple(dict.fromkeys([*first, *on_the_way(ways)])))


@dataclass(frozen=True)
class Ablation:
    """What came of it."""

    design: Design
    measures: tuple[str, ...]
    seeds: tuple[int, ...]
    game: Mapping[Coalition, Floats]
    """Of each set of links the measures (measures x seeds)."""

    @property
    def full(self) -> Floats:
        """With all links, measures x seeds."""
        return self.game[frozenset(self.design.links)]

    @property
    def none(self) -> Floats:
        """With all links off, measures x seeds."""
        return self.game[frozenset()]

    @property
    def shares(self) -> Shares | None:
        """Shapley values, links x measures x seeds; None where only single links were switched off."""
        d = self.design
        if not d.shares:
            return None
        return exact(d.links, self.game) if d.ways is None else sampled(d.links, self.game, d.ways)

    @property
    def table(self) -> pd.DataFrame:
        """One row for each measure and link: means over the seeds, and standard errors over seeds and over orders.

        `without`: the measure with this link alone off; `adds`: how much less that is than with all links; `share`: its Shapley value;
        `share_error`: both errors of it together, as far as they are known.
        """
        whole, shares = frozenset(self.design.links), self.shares
        rows = []
        for m, measure in enumerate(self.measures):
            for k, link in enumerate(self.design.links):
                without = self.game[whole - {link}][m]
                adds = self.full[m] - without
                row = {"measure": measure, "link": link, "without": without.mean(), "adds": adds.mean()}
                row["adds_error"] = float(standard_error(adds))
                if shares is not None:
                    seeds, drawn = float(standard_error(shares.values[k, m])), _order_error(shares, k, m)
                    row |= {"share": shares.values[k, m].mean(), "error_seeds": seeds, "error_orders": drawn}
                    known = [error**2 for error in (seeds, drawn) if not np.isnan(error)]
                    row["share_error"] = np.sqrt(sum(known)) if known else np.nan
                rows.append(row)
        return pd.DataFrame(rows)

    @property
    def interactions(self) -> pd.DataFrame | None:
        """One row for each measure and two links: what they add together beyond what each adds alone; None unless every set was played."""
        if self.design.ways is not None:
            return None
        found = interactions(self.design.links, self.game)
        rows = [
            (name, one, other, v[m].mean()) for (one, other), v in found.items() for m, name in enumerate(self.measures)
        ]
        return pd.DataFrame(rows, columns=["measure", "link", "other", "together"])


def _order_error(shares: Shares, k: int, m: int) -> float:
    """Standard error of a share, averaged over the seeds, for the orders that were drawn."""
    return 0.0 if shares.pairs is None else float(standard_error(shares.pairs[:, k, m].mean(axis=-1)))
