"""Who fails because others have: distress and cascades through claims that banks have on each other, and through assets that they hold in common.

What a network and an amount for each node may be is said in `abm.contagion.measures.networks`.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numba import njit
from scipy.sparse import csr_array

from abm.contagion.measures.networks import (
    RELATIVE,
    ROUNDS,
    Amounts,
    Bools,
    Exposures,
    Floats,
    Ints,
    Network,
    amounts_of,
    bipartite,
    check_fraction,
    exposures,
    number_of,
    places,
    places_of,
    ratio,
)


@dataclass(frozen=True, slots=True)
class DebtRank:
    """How much distress a shock has brought, as fractions."""

    nodes: Sequence[Hashable]
    shock: Floats
    """h at the start: fraction of its equity that each node has lost to the shock."""
    distress: Floats
    """h at the end: fraction of its equity that each node has lost in all."""
    weights: Floats
    """v: what each node counts for; they add up to 1."""
    rounds: int
    """In which distress still grew."""

    @property
    def value(self) -> float:
        """DebtRank: what contagion adds, sum v (h at the end - h at the start); 0 to 1."""
        return float(self.weights @ (self.distress - self.shock))

    @property
    def total(self) -> float:
        """The shock and what it has brought: sum v h at the end; 0 to 1."""
        return float(self.weights @ self.distress)


def debtrank(
    network: Network,
    shock: Amounts,
    equity: Amounts = "equity",
    *,
    linear: bool = False,
    weights: Amounts | None = None,
) -> DebtRank:
    """Distress that is passed on to creditors before anybody fails.

    Battiston, Puliga, Kaushik, Tasca and Caldarelli (2012), Scientific Reports 2:541: a node in distress costs each creditor the part h min(1, W) of
    its equity, W = what it owes / that equity, once. `linear`, Bardoscia, Battiston, Caccioli and Caldarelli (2015), PLoS ONE 10:e0130406: whatever
    is lost later is passed on too, without that bound, until nothing changes.

    Args:
        network: Who owes whom, currency.
        shock: h at the start, 0 to 1, of each node; a mapping may leave out who is not shocked.
        equity: Of each node before the shock, currency, above 0.
        linear: Which of the two.
        weights: What nodes count for, in any unit. None: as in the papers, the claims that each has on the network, or its equity if `linear`.

    Raises:
        ValueError: The network or a number is wrong; one line says where.
        RuntimeError: Distress goes round and round without an end.
    """
    owed = exposures(network)
    start = _shock(shock, owed.nodes)
    capital = owed.amounts(equity, "equity", least=np.nextafter(0.0, 1.0))
    claims = owed.matrix.sum(axis=0)
    counts = (capital if linear else claims) if weights is None else owed.amounts(weights, "weights")
    impact = owed.matrix.T.tocsr()  # row: creditor, column: debtor
    impact.data /= np.repeat(capital, np.diff(impact.indptr))
    if linear:
        distress, rounds = _all_rounds(impact, start)
    else:
        impact.data = np.minimum(impact.data, 1.0)
        distress, rounds = _once(impact, start)
    return DebtRank(owed.nodes, start, distress, counts / (counts.sum() or 1.0), rounds)


def _shock(given: Amounts, nodes: Sequence[Hashable]) -> Floats:
    if isinstance(given, (Mapping, pd.Series)):
        shocked = places(list(given.keys()), nodes)
        some = np.zeros(len(nodes))
        some[shocked] = [number_of(value, f"shock of node {node!r}") for node, value in given.items()]
        given = some
    start = amounts_of(given, "shock", nodes)
    much = np.flatnonzero(start > 1.0)
    if len(much):
        raise ValueError(f"shock of node {nodes[much[0]]!r} = {start[much[0]]}: is a fraction of its equity, at most 1")
    return start


def _once(impact: csr_array, start: Floats) -> tuple[Floats, int]:
    """Each node passes on what it has lost by then in the round after its first loss, and never again."""
    distress, done, rounds = start, np.zeros(len(start), np.bool_), 0
    while (active := (distress > 0) & ~done).any():
        following = np.minimum(1.0, distress + impact @ np.where(active, distress, 0.0))
        done |= active
        rounds += bool((following > distress).any())
        distress = following
    return distress, rounds


def _all_rounds(impact: csr_array, start: Floats) -> tuple[Floats, int]:
    """Each further loss is passed on, until none is left that counts."""
    distress, growth = start, start
    for rounds in range(ROUNDS):
        following = np.minimum(1.0, distress + impact @ growth)
        growth = following - distress
        if growth.max() <= 1e-15:
            return following, rounds
        distress = following
    raise RuntimeError(f"distress still grows after {ROUNDS} rounds; a loop of debts passes on nearly all of it")


# ------------------------------------------------------------------------------------------------------------ cascades


@dataclass(frozen=True, slots=True)
class Cascade:
    """Who has failed, and when."""

    nodes: Sequence[Hashable]
    rounds: Ints
    """Round in which each node failed: 0 for who was shocked, -1 for who stands."""

    @property
    def failed(self) -> Bools:
        """Who has failed; (n,)."""
        return self.rounds >= 0

    @property
    def extent(self) -> float:
        """Fraction of the nodes that has failed, those shocked among them."""
        return float(np.count_nonzero(self.rounds >= 0) / len(self.rounds))


def gai_kapadia(network: Network, shocked: Any, capital: Amounts = "capital", *, recovery: float = 0.0) -> Cascade:
    """A cascade of failures through claims: Gai and Kapadia (2010), Proceedings of the Royal Society A 466:2401.

    A node fails when what it loses on debtors that have failed exceeds its capital. At exactly its capital it stands.

    Args:
        network: Who owes whom, currency.
        shocked: A node, or several, that fail at the start.
        capital: What each node can lose, currency.
        recovery: Fraction that is paid on claims on who has failed.

    Raises:
        ValueError: The network, a node or a number is wrong; one line says where.
    """
    check_fraction(recovery, "recovery")
    owed = exposures(network)
    bears = owed.amounts(capital, "capital") * (1.0 + RELATIVE)
    return _cascade(owed, (1.0 - recovery) * owed.matrix.data, bears, shocked)


def watts(network: Network, shocked: Any, threshold: Amounts = "threshold") -> Cascade:
    """A cascade by a fractional threshold: Watts (2002), PNAS 99:5766.

    A node follows when at least that fraction of the nodes with an edge to it has. Neither weights of edges matter nor how many are parallel; an
    undirected graph has each edge both ways.

    Args:
        network: Who is seen by whom.
        shocked: A node, or several, that begin.
        threshold: Of each node, above 0 and at most 1.

    Raises:
        ValueError: The network, a node or a number is wrong; one line says where.
    """
    seen = exposures(network, weight=None)
    ties = (seen.matrix.data > 0).astype(np.float64)
    fractions = seen.amounts(threshold, "threshold", least=np.nextafter(0.0, 1.0))
    much = np.flatnonzero(fractions > 1.0)
    if len(much):
        raise ValueError(f"threshold of node {seen.nodes[much[0]]!r} = {fractions[much[0]]}: is a fraction, at most 1")
    degree = np.bincount(seen.matrix.indices, ties, len(seen.nodes))
    return _cascade(seen, ties, fractions * degree * (1.0 - RELATIVE), shocked)


def _cascade(network: Exposures, weights: Floats, bears: Floats, shocked: Any) -> Cascade:
    indptr, indices = (part.astype(np.int64) for part in (network.matrix.indptr, network.matrix.indices))
    return Cascade(network.nodes, _spread(indptr, indices, weights, bears, places(shocked, network.nodes)))


@njit(cache=True)
def _spread(indptr: Ints, indices: Ints, weights: Floats, bears: Floats, shocked: Ints) -> Ints:
    """Rounds in which nodes fail: those that get more than they bear from those before. Costs what fails, not how many there are."""
    n = len(bears)
    rounds, queue, got = np.full(n, -1, np.int64), np.empty(n, np.int64), np.zeros(n)
    tail = 0
    for node in shocked:
        if rounds[node] < 0:
            rounds[node] = 0
            queue[tail] = node
            tail += 1
    head = 0
    while head < tail:
        end = tail
        for k in range(head, end):
            node = queue[k]
            for edge in range(indptr[node], indptr[node + 1]):
                to = indices[edge]
                got[to] += weights[edge]
                if rounds[to] < 0 and got[to] > bears[to]:
                    rounds[to] = rounds[node] + 1
                    queue[tail] = to
                    tail += 1
        head = end
    return rounds


@dataclass(frozen=True, slots=True)
class OverlapCascade(Cascade):
    """Which banks have failed, and what their assets are worth then."""

    assets: Sequence[Hashable]
    prices: Floats
    """Of each asset, as a fraction of its price at the start."""


def overlap_cascade(
    holdings: Network,
    equity: Amounts = "equity",
    *,
    shocked: Any = None,
    devalued: Mapping[Hashable, float] | None = None,
    impact: float = 1.0536,
) -> OverlapCascade:
    """A cascade through assets that banks hold in common: Caccioli, Shrestha, Moore and Farmer (2014), Journal of Banking and Finance 46:233.

    A bank fails when what it loses on its assets exceeds its equity, and then sells all. Asset j is worth exp(-impact x_j) of its first price, x_j
    being the fraction of what all banks held of it that has been sold.

    Args:
        holdings: (banks, assets), currency at the start: array, table or sparse matrix. Or a graph whose nodes have the attribute `bipartite`, 0 for
            banks and 1 for assets, with an edge from each bank to what it holds and its worth as `weight`.
        equity: What each bank can lose, currency.
        shocked: A bank, or several, that fail at the start.
        devalued: Assets that fall at the start, each by a fraction of its price.
        impact: alpha; 1.0536 lowers the price by a tenth when a tenth has been sold.

    Raises:
        ValueError: Holdings, a bank, an asset or a number is wrong; one line says where.
    """
    holders, assets = bipartite(holdings)
    banks, held = holders.nodes, holders.matrix
    bears = holders.amounts(equity, "equity") * (1.0 + RELATIVE)
    if not 0.0 <= impact < np.inf:
        raise ValueError(f"impact = {impact}: must be finite and not negative")
    start = 1.0 - _devalued(devalued or {}, assets)
    sellers, total = held.T.tocsr(), held.sum(axis=0)
    rounds, prices = np.full(len(banks), -1, np.int64), start
    if shocked is not None:
        rounds[places(shocked, banks)] = 0
    number = 0
    while True:
        number += 1
        prices = start * np.exp(-impact * ratio(sellers @ (rounds >= 0).astype(np.float64), total, 0.0))
        new = (held @ (1.0 - prices) > bears) & (rounds < 0)
        if not new.any():
            return OverlapCascade(banks, rounds, assets, prices)
        rounds[new] = number


def _devalued(falls: Mapping[Hashable, float], assets: Sequence[Hashable]) -> Floats:
    place, lost = places_of(assets), np.zeros(len(assets))
    for asset, fall in falls.items():
        if asset not in place:
            raise ValueError(f"devalued asset {asset!r} is not among the holdings; they begin with {assets[0]!r}")
        if not 0.0 <= number_of(fall, f"fall of asset {asset!r}") <= 1.0:
            raise ValueError(f"asset {asset!r} falls by {fall}: is a fraction of its price, between 0 and 1")
        lost[place[asset]] = fall
    return lost
