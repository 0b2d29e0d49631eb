"""Who pays whom how much when not all can: the clearing vector of Eisenberg and Noe (2001), Management Science 47:236.

Node i owes `liabilities[i, j]` to j and has `endowment[i]` from elsewhere. Obligations pbar_i = sum_j L_ij, shares Pi_ij = L_ij / pbar_i. A clearing
vector has p_i = min(pbar_i, e_i + sum_j Pi_ji p_j): who cannot pay all pays all it has, in proportion. Of several the greatest is meant.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

Floats = npt.NDArray[np.float64]
Method = Literal["fictitious_default", "fixed_point", "linear_programme"]

_RELATIVE = 1e-12  # of the largest obligation: nearer than that, a node has paid in full
_ITERATIONS = 100_000


@dataclass(frozen=True, slots=True)
class Clearing:
    """What each node pays, and what is left to it."""

    payments: Floats
    """p: what each node pays in all."""
    obligations: Floats
    """pbar: what each node owes in all."""
    equity: Floats
    """e + what it is paid - what it pays; what bankruptcy costs has gone from it."""
    waves: tuple[tuple[int, ...], ...]
    """Nodes in default, by the round in which they fail: the first by themselves, each other by those before."""

    @property
    def recovery(self) -> Floats:
        """Fraction of its claim that a creditor of each node gets; 1 for who owes nothing."""
        owes = self.obligations > 0
        return np.where(owes, self.payments / np.where(owes, self.obligations, 1.0), 1.0)

    @property
    def in_default(self) -> npt.NDArray[np.bool_]:
        """Which nodes do not pay all."""
        bad = np.zeros(len(self.payments), np.bool_)
        bad[[node for wave in self.waves for node in wave]] = True
        return bad


def clear(
    liabilities: npt.ArrayLike,
    endowment: npt.ArrayLike,
    *,
    method: Method = "fictitious_default",
    recovery: float = 1.0,
) -> Clearing:
    """The greatest clearing vector.

    Args:
        liabilities: L, (n, n): what the node of the row owes that of the column. What is owed to others goes to a node that owes nothing.
        endowment: e, (n,): what each node has besides its claims.
        method: All lead to the same vector. `fictitious_default` in at most n rounds, `fixed_point` by iteration from above,
            `linear_programme` by the greatest sum of payments.
        recovery: Fraction of what it has that a node in default can pay out; the rest is the cost of bankruptcy (Rogers and Veraart
            2013, with one parameter for two). 0: a defaulter pays nothing. Other than 1 only with the first two methods.

    Raises:
        ValueError: Shapes do not fit, a number is negative or not finite, a node owes to itself, or the method does not know this recovery.
        RuntimeError: The iteration or the programme does not end.
    """
    owed, means = _checked(liabilities, endowment, recovery)
    if method == "linear_programme" and recovery != 1.0:
        raise ValueError("linear_programme knows no cost of bankruptcy; use another method, or recovery=1")
    obligations = owed.sum(axis=1)
    shares = owed / np.where(obligations > 0, obligations, 1.0)[:, None]
    # The rounds of default are those of fictitious default, whoever finds the payments
    payments, waves = _fictitious_default(shares, obligations, means, recovery)
    if method == "fixed_point":
        payments = _fixed_point(shares, obligations, means, recovery)
    elif method == "linear_programme":
        payments = _linear_programme(shares, obligations, means)
    elif method != "fictitious_default":
        raise ValueError(f"no method {method!r}")
    has = means + shares.T @ payments
    equity = np.where(payments < obligations - _slack(obligations), 0.0, has - payments)
    return Clearing(payments, obligations, equity, waves)


def _checked(liabilities: npt.ArrayLike, endowment: npt.ArrayLike, recovery: float) -> tuple[Floats, Floats]:
    owed, means = np.asarray(liabilities, np.float64), np.asarray(endowment, np.float64)
    if owed.ndim != 2 or owed.shape[0] != owed.shape[1]:
        raise ValueError(f"liabilities must be a square matrix, not of shape {owed.shape}")
    if means.shape != owed.shape[:1]:
        raise ValueError(f"endowment must have one number for each of {len(owed)} nodes, not the shape {means.shape}")
    if not 0.0 <= recovery <= 1.0:
        raise ValueError(f"recovery must lie between 0 and 1, not {recovery}")
    bad = np.argwhere(~((owed >= 0) & np.isfinite(owed)))
    if len(bad):
        i, j = map(int, bad[0])
        raise ValueError(f"liabilities[{i}, {j}] = {owed[i, j]}: must be finite and not negative")
    rows = np.flatnonzero(~((means >= 0) & np.isfinite(means)))
    if len(rows):
        raise ValueError(f"endowment[{rows[0]}] = {means[rows[0]]}: must be finite and not negative")
    own = np.flatnonzero(np.diagonal(owed))
    if len(own):
        raise ValueError(f"node {own[0]} owes to itself; leave the diagonal 0")
    return owed, means


def _slack(obligations: Floats) -> float:
    return _RELATIVE * float(obligations.max(initial=0.0))


def _fictitious_default(
    shares: Floats, obligations: Floats, means: Floats, recovery: float
) -> tuple[Floats, tuple[tuple[int, ...], ...]]:
    """Let all pay, see who cannot, solve for what those can, see who cannot then, and so on: section 3 of the paper."""
    payments, failed = obligations.copy(), np.zeros(len(obligations), np.bool_)
    waves: list[tuple[int, ...]] = []
    while True:
        new = (means + shares.T @ payments < obligations - _slack(obligations)) & ~failed
        if not new.any():
            return payments, tuple(waves)
        waves.append(tuple(map(int, np.flatnonzero(new))))
        failed |= new
        # p_D = recovery (e_D + Pi_DD' p_D + Pi_SD' pbar_S), all sound nodes paying in full
        among = np.eye(int(failed.sum())) - recovery * shares[np.ix_(failed, failed)].T
        has = recovery * (means[failed] + shares[np.ix_(~failed, failed)].T @ obligations[~failed])
        payments[failed] = np.clip(np.linalg.solve(among, has), 0.0, obligations[failed])


def _fixed_point(shares: Floats, obligations: Floats, means: Floats, recovery: float) -> Floats:
    payments, slack = obligations.copy(), _slack(obligations)
    for _ in range(_ITERATIONS):
        has = means + shares.T @ payments
        short = has < obligations - slack
        # From above the payments only fall; who has once failed stays so
        following = np.minimum(payments, np.where(short, recovery * has, obligations))
        if np.max(payments - following, initial=0.0) <= 1e-3 * slack:
            return following
        payments = following
    raise RuntimeError(f"no fixed point within {_ITERATIONS} iterations; use fictitious_default")


def _linear_programme(shares: Floats, obligations: Floats, means: Floats) -> Floats:
    """The greatest sum of payments with p <= e + Pi' p and 0 <= p <= pbar: lemma 4 of the paper."""
    scale = float(obligations.max(initial=0.0)) or 1.0
    answer = linprog(
        -np.ones(len(obligations)),
        A_ub=np.eye(len(obligations)) - shares.T,
        b_ub=means / scale,
        bounds=np.column_stack([np.zeros(len(obligations)), obligations / scale]),
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if not answer.success:
        raise RuntimeError(f"the linear programme has no solution: {answer.message}")
    return np.clip(np.asarray(answer.x, np.float64) * scale, 0.0, obligations)
