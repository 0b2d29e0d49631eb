"""How much of an outcome is owed to each of several causes that work together: the Shapley value of a cooperative game.

A game says what each coalition of players comes to, v(S). A player's share is what he adds to those who came before him, averaged over all orders
in which all can come (Shapley 1953, Contributions to the Theory of Games 2:307). All shares add up to v(all) - v(none).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Coalition = frozenset[str]
Game = Mapping[Coalition, npt.ArrayLike]
"""Of coalitions what they come to: numbers or arrays of one shape, such as one number for each measure and seed."""


@dataclass(frozen=True)
class Shares:
    """Shapley values of all players; the first axis is the player, the others are those of the game."""

    players: tuple[str, ...]
    values: Floats
    """Of each player."""
    pairs: Floats | None
    """Where orders were drawn: what each pair of them says of each player (pairs x players x those of the game). None: all orders count."""

    @property
    def errors(self) -> Floats:
        """Standard errors of `values` for the orders that were drawn; 0 where all count, not a number where one pair was."""
        return np.zeros_like(self.values) if self.pairs is None else standard_error(self.pairs)


def standard_error(samples: Floats) -> Floats:
    """Of the mean over the first axis; not a number where there is one sample."""
    n = len(samples)
    return samples.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else np.full(samples.shape[1:], np.nan)


def orders(players: Sequence[str], number: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Orders in which the players come, drawn in pairs: one and its reverse, whose errors go against each other.

    Who comes early in one comes late in the other (Mitchell et al. 2022, J. Machine Learning Research 23:43).

    Args:
        players: Names.
        number: How many, even. The first of a larger number are those of a smaller one.
        rng: Draws them.
    """
    if number % 2 or number < 2:
        raise ValueError(f"{number} orders are no pairs; give an even number from 2 on")
    drawn = [tuple(players[k] for k in rng.permutation(len(players))) for _ in range(number // 2)]
    return [order for one in drawn for order in (one, one[::-1])]


def subsets(players: Sequence[str]) -> list[Coalition]:
    """All coalitions, the smallest first."""
    return [frozenset(chosen) for size in range(len(players) + 1) for chosen in combinations(players, size)]


def on_the_way(ways: Iterable[Sequence[str]]) -> list[Coalition]:
    """The coalitions that orders lead through from nobody to all, each once."""
    return list(dict.fromkeys(frozenset(way[:k]) for way in ways for k in range(len(way) + 1)))


def exact(players: Sequence[str], game: Game) -> Shares:
    """Shapley values from all coalitions.

    Args:
        players: Names.
        game: Of each subset of them what it comes to.
    """
    n, values = len(players), []
    for player in players:
        others = [other for other in players if other != player]
        values.append(
            sum(
                (_added(game, before, player) / (n * math.comb(n - 1, len(before))) for before in subsets(others)),
                np.float64(0.0),
            )
        )
    return Shares(tuple(players), np.array(values), None)


def sampled(players: Sequence[str], game: Game, drawn: Sequence[Sequence[str]]) -> Shares:
    """Shapley values estimated from some orders (Castro, Gomez and Tejada 2009, Computers & Operations Research 36:1726).

    Args:
        players: Names.
        game: Of the coalitions that the orders lead through what they come to.
        drawn: The orders, one after the other the two of a pair (`orders`).
    """
    each = np.array([[_added(game, frozenset(order[: order.index(who)]), who) for who in players] for order in drawn])
    pairs = (each[0::2] + each[1::2]) / 2.0
    return Shares(tuple(players), pairs.mean(axis=0), pairs)


def interactions(players: Sequence[str], game: Game) -> dict[tuple[str, str], Floats]:
    """What two players add together beyond what each adds alone, on average over who is there besides; from all coalitions.

    The interaction index of Grabisch and Roubens (1999, International J. Game Theory 28:547): above 0 they need each other, below 0 one does what
    the other would have done.
    """
    n, found = len(players), {}
    for one, other in combinations(players, 2):
        rest = [player for player in players if player not in (one, other)]
        found[one, other] = sum(
            (
                (_added(game, before | {one}, other) - _added(game, before, other))
                / ((n - 1) * math.comb(n - 2, len(before)))
                for before in subsets(rest)
            ),
            np.float64(0.0),
        )
    return found


def _added(game: Game, before: Coalition, player: str) -> Floats:
    return np.asarray(game[before | {player}], np.float64) - np.asarray(game[before], np.float64)
