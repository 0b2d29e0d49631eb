"""Who pays how much when not all can, and what claims are worth that may not be paid: Eisenberg and Noe, and valuations of networks.

What a network and an amount for each node may be is said in `abm.contagion.measures.networks`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr

from abm.clearing.network import Method, clear
from abm.contagion.measures.networks import (
    RELATIVE,
    ROUNDS,
    Amounts,
    Bools,
    Floats,
    Network,
    check_fraction,
    exposures,
    ratio,
    table_of,
)

Seniority = Literal["external_first", "equal"]
"""Whether creditors outside the network are paid before those in it, or pro rata with them."""


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
    owed = exposures(network)
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
    return table_of(owed.nodes, {name: column[:n] for name, column in columns.items()})


def _ranking(seniority: str) -> str:
    if seniority not in ("external_first", "equal"):
        raise ValueError(f"no seniority {seniority!r}; it is 'external_first' or 'equal'")
    return seniority


# ----------------------------------------------------------------------------------------------------------- valuation


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
        return np.clip(ratio(equity + books.ranking, books.ranking, 1.0), 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class RogersVeraart(EisenbergNoe):
    """The same with costs of default: Rogers and Veraart (2013), Management Science 59:882."""

    external: float = 1.0
    """alpha: fraction of its external assets that a bank in default keeps."""
    interbank: float = 1.0
    """beta: fraction of what its claims are worth that a bank in default gets."""

    def __post_init__(self) -> None:
        check_fraction(self.external, "external")
        check_fraction(self.interbank, "interbank")

    def keeps(self, failed: Bools) -> tuple[Floats, Floats]:
        """Alpha and beta of who has failed."""
        return np.where(failed, self.external, 1.0), np.where(failed, self.interbank, 1.0)


@dataclass(frozen=True, slots=True)
class Furfine(Valuation):
    """Contagion by default only: Furfine (2003), Journal of Money, Credit and Banking 35:111. A bank fails when its equity is below 0."""

    recovery: float = 0.0
    """Fraction that is paid on claims on a bank that has failed, whatever it has."""

    def __post_init__(self) -> None:
        check_fraction(self.recovery, "recovery")

    def claims(self, equity: Floats, books: Books) -> Floats:
        """1, or the recovery where a bank has failed."""
        return np.where(_failed(equity, books), self.recovery, 1.0)


@dataclass(frozen=True, slots=True)
class LinearDebtRank(Valuation):
    """Claims lose value in proportion to the debtor's equity: Bardoscia et al. (2015), PLoS ONE 10:e0130406."""

    def claims(self, equity: Floats, books: Books) -> Floats:
        """E / E before the loss, within 0 and 1."""
        return np.where(books.equity > 0, np.clip(ratio(equity, books.equity, 0.0), 0.0, 1.0), 0.0)


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
        check_fraction(self.recovery, "recovery")
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
        paid = np.clip(ratio(_call(assets, some, spread) - _call(assets, full, spread), debt, 1.0), 0.0, 1.0)
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


def _failed(equity: Floats, books: Books) -> Bools:
    return equity < -RELATIVE * (books.external_assets + books.ranking)


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
    owed = exposures(network)
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
    for _ in range(ROUNDS):
        own, lent = valuation.keeps(_failed(equity, books))
        value = valuation.claims(equity, books)
        following = own * books.external_assets - debts + lent * (claims @ value) - due
        if np.max(equity - following, initial=0.0) <= still:
            return table_of(owed.nodes, {"book_equity": book, "equity": following, "claim_value": value})
        equity = np.minimum(equity, following)
    raise RuntimeError(f"no fixed point within {ROUNDS} rounds; claims that go round and round hardly shrink")
