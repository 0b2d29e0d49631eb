"""Who fails because others have: contagion through claims that banks have on each other, and through assets that they hold in common.

A network is a networkx DiGraph or MultiDiGraph with an edge from each debtor to each creditor, whose `weight` is what is owed in currency, or a
square matrix (array, table or scipy's sparse one) whose row owes to the column. What belongs to a node, such as its capital, is the name of a node
attribute, a mapping or pandas Series by node, one number for all, or an array in the order of the nodes: that of the graph or table, or 0, 1, ...
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import networkx as nx
import numpy as np
import numpy.typing as npt
import pandas as pd
from numba import njit
from scipy.sparse import csr_array, issparse
from scipy.special import ndtr

from abm.clearing.network import Method, clear

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Network = Any
"""A networkx graph, a square array or DataFrame, or a sparse matrix: see the head of this module."""
Amounts = Any
"""One number for each node: an attribute's name, a mapping or Series, one number for all, or an array."""
Seniority = Literal["external_first", "equal"]
"""Whether creditors outside the network are paid before those in it, or pro rata with them."""

_RELATIVE = 1e-12  # of what a node can bear: a loss nearer to it than that does not exceed it
_ROUNDS = 100_000


# ------------------------------------------------------------------------------------------------------ what is given


@dataclass(frozen=True, slots=True)
class BalanceSheets:
    """A graph as matrices, in the order of `nodes`."""

    nodes: tuple[Hashable, ...]
    liabilities: csr_array
    """(n, n), currency: what the node of the row owes that of the column."""
    amounts: Mapping[str, Floats]
    """(n,) each: the node attributes that were asked for, by name."""


def balance_sheets(graph: Network, *attributes: str, weight: str = "weight") -> BalanceSheets:
    """Turn a graph into matrices, in the order in which the graph lists its nodes. Parallel edges add up.

    Args:
        graph: DiGraph or MultiDiGraph with an edge from each debtor to each creditor.
        attributes: Node attributes that are wanted, in currency, each with a number of at least 0.
        weight: Edge attribute with what is owed, currency.

    Raises:
        ValueError: The graph is empty or not directed, an attribute is missing, negative or not finite, or a node owes to itself.
    """
    if not isinstance(graph, nx.Graph):
        raise ValueError(f"{type(graph).__name__} is no graph; give a networkx DiGraph or MultiDiGraph")
    owed = _exposures(graph, weight)
    return BalanceSheets(
        tuple(owed.nodes), owed.matrix, {name: owed.amounts(name, name) for name in dict.fromkeys(attributes)}
    )


class _Exposures(NamedTuple):
    nodes: Sequence[Hashable]
    matrix: csr_array
    graph: Any  # None where the network was given as a matrix

    def amounts(self, given: Amounts, what: str, least: float = 0.0) -> Floats:
        """One finite number of at least `least` for each node."""
        if isinstance(given, str):
            given = self._attribute(given, what)
        return _amounts(given, what, self.nodes, least)

    def _attribute(self, name: str, what: str) -> list[Any]:
        if self.graph is None:
            raise ValueError(f"{what} = {name!r} names a node attribute, but a matrix has none; give numbers")
        values = []
        for node in self.nodes:
            if name not in self.graph.nodes[node]:
                raise ValueError(f"node {node!r} has no attribute {name!r}; set it, or give {what} as numbers")
            values.append(self.graph.nodes[node][name])
        return values

    def external_liabilities(self, given: Amounts | None) -> Floats:
        """Those that are given, else those that the nodes of the graph have, else none."""
        name = "external_liabilities"
        if given is None:
            has = self.graph is not None and any(name in known for _, known in self.graph.nodes(data=True))
            given = name if has else 0.0
        return self.amounts(given, name)


def _exposures(network: Network, weight: str | None = "weight") -> _Exposures:
    """Read and check a network. `weight` None: each edge of a graph counts as 1, however many are parallel."""
    if isinstance(network, nx.Graph):
        nodes, matrix = _edges(network, weight)
    else:
        nodes, matrix = _matrix(network)
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"a network must be a square matrix, row owes to column, not of shape {matrix.shape}")
    if not len(nodes):
        raise ValueError("the network has no nodes; add at least one")
    bad = np.flatnonzero(~((matrix.data >= 0) & (matrix.data < np.inf)))
    if len(bad):
        i, j = _ends(matrix, int(bad[0]))
        raise ValueError(
            f"node {nodes[i]!r} owes {matrix.data[bad[0]]} to {nodes[j]!r}: must be finite and not negative; mend that edge"
        )
    own = np.flatnonzero(matrix.diagonal())
    if len(own):
        raise ValueError(f"node {nodes[own[0]]!r} owes to itself; remove that edge")
    return _Exposures(nodes, matrix, network if isinstance(network, nx.Graph) else None)


def _edges(graph: Any, weight: str | None) -> tuple[Sequence[Hashable], csr_array]:
    if weight is not None and not graph.is_directed():
        raise ValueError("the graph is not directed; give a DiGraph with an edge from each debtor to each creditor")
    nodes = list(graph)
    edges = list(graph.edges(data=True))
    if not graph.is_directed():
        edges += [(end, start, known) for start, end, known in edges]
    matrix = _gathered(edges, weight, _places_of(nodes), _places_of(nodes))
    if weight is None:
        matrix.data[:] = 1.0
    return nodes, matrix


def _gathered(edges: Iterable[Any], weight: str | None, rows: Mapping[Any, int], columns: Mapping[Any, int]) -> Any:
    """The sparse matrix of edges, those that are parallel added up."""
    values, starts, ends = [], [], []
    for start, end, known in edges:
        if weight is not None and weight not in known:
            raise ValueError(f"edge {start!r} -> {end!r} has no attribute {weight!r}; set it, in currency")
        value = 1.0 if weight is None else _number(known[weight], f"edge {start!r} -> {end!r}: {weight}")
        if not 0.0 <= value < np.inf:  # looked at one by one: among parallel edges others could hide it
            raise ValueError(f"edge {start!r} -> {end!r}: {weight} = {value}: must be finite and not negative")
        values.append(value)
        starts.append(rows[start])
        ends.append(columns[end])
    return csr_array((values, (starts, ends)), shape=(len(rows), len(columns)), dtype=np.float64)


def _matrix(given: Any) -> tuple[Sequence[Hashable], csr_array]:
    if isinstance(given, pd.DataFrame):
        if list(given.index) != list(given.columns):
            raise ValueError("rows and columns of the table must be the same nodes in the same order; reindex it")
        nodes, given = list(given.index), given.to_numpy(np.float64)
        if len(set(nodes)) < len(nodes):
            raise ValueError(f"node {next(n for n in nodes if nodes.count(n) > 1)!r} stands twice in the table; add up")
        return nodes, csr_array(given)
    if not issparse(given):
        given = np.asarray(given, np.float64)
        if given.ndim != 2:
            raise ValueError(f"a network must be a square matrix, row owes to column, not of shape {given.shape}")
    matrix = csr_array(given, dtype=np.float64)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return range(matrix.shape[0]), matrix


def _ends(matrix: csr_array, entry: int) -> tuple[int, int]:
    """Row and column of an entry of a sparse matrix."""
    return int(np.searchsorted(matrix.indptr, entry, "right")) - 1, int(matrix.indices[entry])


def _number(value: Any, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{what} = {value!r} is not a number") from None


def _amounts(given: Amounts, what: str, nodes: Sequence[Hashable], least: float = 0.0) -> Floats:
    if isinstance(given, pd.Series):
        given = given.to_dict()
    if isinstance(given, Mapping):
        known = set(nodes)
        for node in given:
            if node not in known:
                raise ValueError(f"{what}: {node!r} is not a node of the network; take it out, or add the node")
        for node in nodes:
            if node not in given:
                raise ValueError(f"{what}: node {node!r} is missing; give a number for each node")
        given = [given[node] for node in nodes]
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        for node, value in zip(nodes, given, strict=False):
            _number(value, f"{what} of node {node!r}")
        raise ValueError(f"{what} = {given!r}: give one number for each node") from None
    if values.ndim == 0:
        values = np.full(len(nodes), values)
    if values.shape != (len(nodes),):
        raise ValueError(f"{what} must be one number for each of {len(nodes)} nodes, not of shape {values.shape}")
    bad = np.flatnonzero(~((values >= least) & (values < np.inf)))
    if len(bad):
        rule = "not negative" if least == 0.0 else "above 0"
        raise ValueError(f"{what} of node {nodes[bad[0]]!r} = {values[bad[0]]}: must be finite and {rule}")
    return values


def _places_of(nodes: Sequence[Hashable]) -> dict[Hashable, int]:
    return {node: k for k, node in enumerate(nodes)}


def _places(asked: Any, nodes: Sequence[Hashable]) -> Ints:
    """Places of a node, or of each of several."""
    place = _places_of(nodes)
    alone = isinstance(asked, Hashable) and asked in place
    several = not alone and isinstance(asked, Iterable) and not isinstance(asked, str)
    found = []
    for node in asked if several else [asked]:
        if node not in place:
            raise ValueError(f"shocked node {node!r} is not in the network; its nodes begin with {nodes[0]!r}")
        found.append(place[node])
    return np.array(found, np.int64)


# --------------------------------------------------------------------------------------------------------- clearing


def eisenberg_noe(
    network: Network,
    external_assets: Amounts = "external_assets",
    external_liabilities: Amounts | None = None,
    *,
    seniority: Seniority = "external_first",
    method: Method = "fictitious_default",
    recovery: float = 1.0,
) -> pd.DataFrame:
    """Who pays how much when not all can: the clearing vector of Eisenberg and Noe (2001), Management Science 47:236.

    Args:
        network: Who owes whom, currency.
        external_assets: What each node has besides its claims, currency.
        external_liabilities: What each owes to others than these nodes, currency; None: the attribute of that name where the graph has it, else 0.
        seniority: `external_first`: they are paid before the network (Barucca et al. 2020), which must not need more than the external assets.
            `equal`: pro rata with it, as Eisenberg and Noe have it.
        method: See `abm.clearing.network.clear`, which does the work.
        recovery: Fraction of what it has that a node in default can pay out.

    Returns:
        By node: `obligations` and `payments`, currency, with those to external creditors only where they rank equal; `recovery`, the fraction paid;
        `equity`, currency; `round` of default, from 1 for who fails by itself, 0 for who pays all.

    Raises:
        ValueError: The network or a number is wrong; one line says where.
    """
    owed = _exposures(network)
    assets = owed.amounts(external_assets, "external_assets")
    debts = owed.external_liabilities(external_liabilities)
    liabilities, n = owed.matrix.toarray(), len(owed.nodes)
    if _ranking(seniority) == "external_first":
        short = np.flatnonzero(assets < debts)
        if len(short):
            raise ValueError(
                f"node {owed.nodes[short[0]]!r} needs its claims to pay external creditors first; use seniority='equal', or neva"
            )
        assets = assets - debts
    elif debts.any():  # outside creditors are a node that owes nothing
        liabilities = np.pad(liabilities, (0, 1))
        liabilities[:n, n] = debts
        assets = np.append(assets, 0.0)
    cleared = clear(liabilities, assets, method=method, recovery=recovery)
    rounds = np.zeros(len(assets), np.int64)
    for number, wave in enumerate(cleared.waves, 1):
        rounds[list(wave)] = number
    columns = {
        "obligations": cleared.obligations,
        "payments": cleared.payments,
        "recovery": cleared.recovery,
        "equity": cleared.equity,
        "round": rounds,
    }
    return _table(owed.nodes, {name: column[:n] for name, column in columns.items()})


def _ranking(seniority: str) -> str:
    if seniority not in ("external_first", "equal"):
        raise ValueError(f"no seniority {seniority!r}; it is 'external_first' or 'equal'")
    return seniority


def _table(nodes: Sequence[Hashable], columns: Mapping[str, npt.NDArray[Any]]) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.Index(list(nodes), name="node", tupleize_cols=False))


# -------------------------------------------------------------------------------------------------------- valuation


@dataclass(frozen=True, slots=True)
class Books:
    """What a valuation knows of each bank; currency, (n,) each."""

    external_assets: Floats
    """As they are now."""
    ranking: Floats
    """All debt that ranks with claims of the network's banks: the network's, and external debt where that ranks equal."""
    equity: Floats
    """Before the loss, all claims at face value."""


class Valuation(ABC):
    """What a claim on a bank is worth, given the bank's equity."""

    @abstractmethod
    def claims(self, equity: Floats, books: Books) -> Floats:
        """Value of a unit of claims on each bank, from 0 to 1; it must not fall as equity rises."""

    def keeps(self, failed: Bools) -> tuple[Floats, Floats]:
        """Fraction of its external assets, and of its claims, that each bank keeps: 1 unless failing costs something."""
        return np.ones(len(failed)), np.ones(len(failed))


@dataclass(frozen=True, slots=True)
class EisenbergNoe(Valuation):
    """At maturity: who cannot pay all pays all it has, in proportion."""

    def claims(self, equity: Floats, books: Books) -> Floats:
        """((E + debt) / debt) within 0 and 1."""
        return np.clip(_over(equity + books.ranking, books.ranking, 1.0), 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class RogersVeraart(EisenbergNoe):
    """The same with costs of default: Rogers and Veraart (2013), Management Science 59:882."""

    external: float = 1.0
    """alpha: fraction of its external assets that a bank in default keeps."""
    interbank: float = 1.0
    """beta: fraction of what its claims are worth that a bank in default gets."""

    def __post_init__(self) -> None:
        _fraction(self.external, "external")
        _fraction(self.interbank, "interbank")

    def keeps(self, failed: Bools) -> tuple[Floats, Floats]:
        """Alpha and beta of who has failed."""
        return np.where(failed, self.external, 1.0), np.where(failed, self.interbank, 1.0)


@dataclass(frozen=True, slots=True)
class Furfine(Valuation):
    """Contagion by default only: Furfine (2003), Journal of Money, Credit and Banking 35:111. A bank fails when its equity is below 0."""

    recovery: float = 0.0
    """Fraction that is paid on claims on a bank that has failed, whatever it has."""

    def __post_init__(self) -> None:
        _fraction(self.recovery, "recovery")

    def claims(self, equity: Floats, books: Books) -> Floats:
        """1, or the recovery where a bank has failed."""
        return np.where(_failed(equity, books), self.recovery, 1.0)


@dataclass(frozen=True, slots=True)
class LinearDebtRank(Valuation):
    """Claims lose value in proportion to the debtor's equity: Bardoscia et al. (2015), PLoS ONE 10:e0130406."""

    def claims(self, equity: Floats, books: Books) -> Floats:
        """E / E before the loss, within 0 and 1."""
        return np.where(books.equity > 0, np.clip(_over(equity, books.equity, 0.0), 0.0, 1.0), 0.0)


@dataclass(frozen=True, slots=True)
class BlackScholesMerton(Valuation):
    """Before maturity: what Eisenberg and Noe's rule will pay on average, external assets being lognormal with their present value as mean.

    Barucca et al. (2020). What is paid on debt D is a spread of two calls on the external assets A_T, of strikes K = A - E and K - D.
    """

    volatility: npt.ArrayLike
    """Of the external assets, per square root of a year; one number, or one for each bank."""
    maturity: float = 1.0
    """Years."""
    recovery: float = 1.0
    """Fraction of that payment which is left where a bank fails."""

    def __post_init__(self) -> None:
        _fraction(self.recovery, "recovery")
        wide = np.asarray(self.volatility, np.float64)
        if not ((wide >= 0) & (wide < np.inf)).all():
            raise ValueError(f"volatility = {wide}: must be finite and not negative")
        if not 0 <= self.maturity < np.inf:
            raise ValueError(f"maturity = {self.maturity}: must be finite and not negative")

    def claims(self, equity: Floats, books: Books) -> Floats:
        """P(no default) + recovery E[(E_T + D) / D in default]."""
        if np.ndim(self.volatility) and np.shape(self.volatility) != equity.shape:
            raise ValueError(f"volatility must be one number, or one for each of {len(equity)} nodes")
        spread = np.asarray(self.volatility, np.float64) * np.sqrt(self.maturity) * np.ones(len(equity))
        assets, debt = books.external_assets, books.ranking
        full, some = assets - equity, assets - equity - debt
        sound, _ = _above(assets, full, spread)
        paid = np.clip(_over(_call(assets, some, spread) - _call(assets, full, spread), debt, 1.0), 0.0, 1.0)
        return np.clip(sound + self.recovery * np.maximum(paid - sound, 0.0), 0.0, 1.0)


def _above(mean: Floats, strike: Floats, spread: Floats) -> tuple[Floats, Floats]:
    """P(A > K), and E[A; A > K] / E[A], of a lognormal A with that mean and standard deviation of the logarithm."""
    uncertain = (strike > 0) & (mean > 0) & (spread > 0)
    ratio = np.log(np.where(uncertain, mean, 1.0) / np.where(uncertain, strike, 1.0))
    wide = np.where(uncertain, spread, 1.0)
    certain = np.where(mean >= strike, 1.0, 0.0)
    chance = np.where(uncertain, ndtr(ratio / wide - wide / 2), certain)
    return chance, np.where(uncertain, ndtr(ratio / wide + wide / 2), certain)


def _call(mean: Floats, strike: Floats, spread: Floats) -> Floats:
    """E[(A - K)+]: the formula of Black and Scholes (1973) without interest."""
    chance, share = _above(mean, strike, spread)
    return mean * share - strike * chance


def _over(above: Floats, below: Floats, otherwise: float) -> Floats:
    """The ratio, or `otherwise` where one would divide by nothing."""
    some = below > 0
    return np.where(some, above / np.where(some, below, 1.0), otherwise)


def _failed(equity: Floats, books: Books) -> Bools:
    return equity < -_RELATIVE * (books.external_assets + books.ranking)


def _fraction(value: float, what: str) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{what} = {value}: must lie between 0 and 1")


def neva(
    network: Network,
    external_assets: Amounts = "external_assets",
    external_liabilities: Amounts | None = None,
    *,
    loss: Amounts = 0.0,
    valuation: Valuation | None = None,
    seniority: Seniority = "external_first",
) -> pd.DataFrame:
    """What banks are worth that hold claims on each other: Barucca et al. (2020), Mathematical Finance 30:1181.

    The greatest equities with E_i = A_i - L_i + sum_j (claim of i on j) V(E_j) - (what i owes to the network), found from face values down.

    Args:
        network: Who owes whom, currency.
        external_assets: A before the loss, currency.
        external_liabilities: L, as in `eisenberg_noe`.
        loss: Of external assets, currency; at most what there is.
        valuation: V, such as `RogersVeraart(0.8, 0.6)` or one of your own; None: `EisenbergNoe()`.
        seniority: Who is paid first by a bank that fails. `external_first`, as in the paper: claims of the network get (E + p) / p, p being what the
            bank owes to the network. `equal`: (E + p + L) / (p + L). Valuations that ask for E only are the same under both.

    Returns:
        By node: `book_equity` before the loss and with all claims at face value, `equity`, which is below 0 where creditors lose, both in currency;
        `claim_value`, of a unit of claims on that node, from 0 to 1.

    Raises:
        ValueError: The network or a number is wrong; one line says where.
        RuntimeError: The iteration does not end.
    """
    valuation = EisenbergNoe() if valuation is None else valuation
    owed = _exposures(network)
    assets = owed.amounts(external_assets, "external_assets")
    debts, lost = owed.external_liabilities(external_liabilities), owed.amounts(loss, "loss")
    more = np.flatnonzero(lost > assets)
    if len(more):
        raise ValueError(f"loss of node {owed.nodes[more[0]]!r} exceeds its external assets; lower it")
    due, claims = owed.matrix.sum(axis=1), owed.matrix.T.tocsr()
    book = assets - debts + claims.sum(axis=1) - due
    ranking = due + debts if _ranking(seniority) == "equal" else due
    books = Books(assets - lost, ranking, book)
    still = 1e-15 * float((assets + debts + due).max())
    equity = book
    for _ in range(_ROUNDS):
        own, lent = valuation.keeps(_failed(equity, books))
        value = valuation.claims(equity, books)
        following = own * books.external_assets - debts + lent * (claims @ value) - due
        if np.max(equity - following, initial=0.0) <= still:
            return _table(owed.nodes, {"book_equity": book, "equity": following, "claim_value": value})
        equity = np.minimum(equity, following)
    raise RuntimeError(f"no fixed point within {_ROUNDS} rounds; claims that go round and round hardly shrink")


# ------------------------------------------------------------------------------------------------------------ DebtRank


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
    owed = _exposures(network)
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
        places = _places(list(given.keys()), nodes)
        some = np.zeros(len(nodes))
        some[places] = [_number(value, f"shock of node {node!r}") for node, value in given.items()]
        given = some
    start = _amounts(given, "shock", nodes)
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
    for rounds in range(_ROUNDS):
        following = np.minimum(1.0, distress + impact @ growth)
        growth = following - distress
        if growth.max() <= 1e-15:
            return following, rounds
        distress = following
    raise RuntimeError(f"distress still grows after {_ROUNDS} rounds; a loop of debts passes on nearly all of it")


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
    _fraction(recovery, "recovery")
    owed = _exposures(network)
    bears = owed.amounts(capital, "capital") * (1.0 + _RELATIVE)
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
    seen = _exposures(network, weight=None)
    ties = (seen.matrix.data > 0).astype(np.float64)
    fractions = seen.amounts(threshold, "threshold", least=np.nextafter(0.0, 1.0))
    much = np.flatnonzero(fractions > 1.0)
    if len(much):
        raise ValueError(f"threshold of node {seen.nodes[much[0]]!r} = {fractions[much[0]]}: is a fraction, at most 1")
    degree = np.bincount(seen.matrix.indices, ties, len(seen.nodes))
    return _cascade(seen, ties, fractions * degree * (1.0 - _RELATIVE), shocked)


def _cascade(network: _Exposures, weights: Floats, bears: Floats, shocked: Any) -> Cascade:
    indptr, indices = (part.astype(np.int64) for part in (network.matrix.indptr, network.matrix.indices))
    return Cascade(network.nodes, _spread(indptr, indices, weights, bears, _places(shocked, network.nodes)))


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
    holders, assets = _holdings(holdings)
    banks, held = holders.nodes, holders.matrix
    bears = holders.amounts(equity, "equity") * (1.0 + _RELATIVE)
    if not 0.0 <= impact < np.inf:
        raise ValueError(f"impact = {impact}: must be finite and not negative")
    start = 1.0 - _devalued(devalued or {}, assets)
    sellers, total = held.T.tocsr(), held.sum(axis=0)
    rounds, prices = np.full(len(banks), -1, np.int64), start
    if shocked is not None:
        rounds[_places(shocked, banks)] = 0
    number = 0
    while True:
        number += 1
        prices = start * np.exp(-impact * _over(sellers @ (rounds >= 0).astype(np.float64), total, 0.0))
        new = (held @ (1.0 - prices) > bears) & (rounds < 0)
        if not new.any():
            return OverlapCascade(banks, rounds, assets, prices)
        rounds[new] = number


def _holdings(given: Network) -> tuple[_Exposures, Sequence[Hashable]]:
    """Banks with what each holds of each asset, and the assets."""
    graph: Any = None
    banks: Sequence[Hashable]
    assets: Sequence[Hashable]
    if isinstance(given, nx.Graph):
        graph, (banks, assets) = given, _sides(given)
        held = _gathered(_from_banks(given, set(banks)), "weight", _places_of(banks), _places_of(assets))
    elif isinstance(given, pd.DataFrame):
        banks, assets, held = list(given.index), list(given.columns), csr_array(given.to_numpy(np.float64))
    else:
        matrix = given if issparse(given) else np.asarray(given, np.float64)
        if matrix.ndim != 2:
            raise ValueError(f"holdings must be banks x assets, not of shape {matrix.shape}")
        held = csr_array(matrix, dtype=np.float64)
        banks, assets = range(held.shape[0]), range(held.shape[1])
    if not len(banks) or not len(assets):
        raise ValueError(f"holdings of {len(banks)} banks in {len(assets)} assets; there must be one of each at least")
    bad = np.flatnonzero(~((held.data >= 0) & (held.data < np.inf)))
    if len(bad):
        i, j = _ends(held, int(bad[0]))
        raise ValueError(
            f"bank {banks[i]!r} holds {held.data[bad[0]]} of {assets[j]!r}: must be finite and not negative"
        )
    return _Exposures(banks, held, graph), assets


def _sides(graph: Any) -> tuple[list[Hashable], list[Hashable]]:
    """Banks and assets of a bipartite graph."""
    sides: tuple[list[Hashable], list[Hashable]] = ([], [])
    for node, known in graph.nodes(data=True):
        if known.get("bipartite") not in (0, 1):
            raise ValueError(f"node {node!r} has no attribute 'bipartite'; set it to 0 for a bank and 1 for an asset")
        sides[known["bipartite"]].append(node)
    return sides


def _from_banks(graph: Any, banks: set[Hashable]) -> Iterable[tuple[Hashable, Hashable, Mapping[str, Any]]]:
    """Edges, each from a bank to an asset."""
    for start, end, known in graph.edges(data=True):
        turned = not graph.is_directed() and start not in banks
        bank, asset = (end, start) if turned else (start, end)
        if bank not in banks or asset in banks:
            raise ValueError(
                f"edge {bank!r} -> {asset!r} must lead from a bank to an asset; turn it or mend 'bipartite'"
            )
        yield bank, asset, known


def _devalued(falls: Mapping[Hashable, float], assets: Sequence[Hashable]) -> Floats:
    place, lost = _places_of(assets), np.zeros(len(assets))
    for asset, fall in falls.items():
        if asset not in place:
            raise ValueError(f"devalued asset {asset!r} is not among the holdings; they begin with {assets[0]!r}")
        if not 0.0 <= _number(fall, f"fall of asset {asset!r}") <= 1.0:
            raise ValueError(f"asset {asset!r} falls by {fall}: is a fraction of its price, between 0 and 1")
        lost[place[asset]] = fall
    return lost
