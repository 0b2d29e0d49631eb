"""Correlation trading: what moves in one market is taken for news in another, whether or not it is."""

import math
from collections.abc import Collection, Iterator

from pydantic import Field, field_validator

from abm.contagion.channels.base import Channel, ChannelConfig
from abm.contagion.graph import Edge

type Weights = dict[str, dict[str, float]]


class CorrelationConfig(ChannelConfig):
    """Which instruments are traded, and valued, by what others do."""

    follows: Weights = Field(
        default={},
        description="by follower: its leaders, and the return that is inferred from a return of 1 of each",
        examples=[{"btc-perp": {"ndx": 0.5}}],
    )
    values: Weights = Field(
        default={},
        description="by instrument: its leaders, and how much of each one's return beyond its news is taken for news about it by who values it",
        examples=[{"eth-spot": {"btc-spot": 1.0}}],
    )

    @field_validator("follows", "values")
    @classmethod
    def _of_others(cls, value: Weights) -> Weights:
        for follower, leaders in value.items():
            for leader, weight in leaders.items():
                if leader == follower:
                    raise ValueError(f"{follower} cannot follow itself; leave it out")
                if weight == 0.0:
                    raise ValueError(f"{follower}: the weight of {leader} is 0; leave it out")
        return value

    def unknown(self, instruments: Collection[str]) -> str:
        """What is wrong with the names used, in one line; empty if nothing is."""
        for key, edges in (("follows", self.follows), ("values", self.values)):
            for follower, leaders in edges.items():
                where = f"channels.correlation.{key}.{follower}"
                for name in (follower, *leaders):
                    if name not in instruments:
                        return f"{where}: {name!r} is not traded here"
                    if key == "values" and name != follower and name in self.values:
                        return f"{where}: {name} is valued by its leaders itself; name these"
                    if key == "values" and name in self.follows.get(follower, ()):
                        return f"{where}: {name} is its leader under follows too; leave one of them out"
        return ""


class Correlation(Channel):
    """A return r of a leader is taken for news that is worth w r in its follower, whose price it then moves: dP_1 = own + w dP_2.

    King and Wadhwani (1990), Review of Financial Studies 3:5: who cannot see what is known in another market infers it from the price there, and so
    takes on its mistakes too. Two act on it: traders of the kind `correlation_traders` (key `follows`), and all who value the follower
    (key `values`: value traders, fundamentalists, market makers). Where it is off, these know its own news alone and those keep what they have.
    """

    name = "correlation"

    def inferred(self, instrument: str) -> float:
        """Factor on an instrument's value by the news: how far its leaders' prices are from theirs, each by its weight."""
        market, log = self.market, 0.0
        for leader, weight in market.scenario.channels.correlation.values.get(instrument, {}).items():
            log += weight * math.log(market.view()[leader].mid / market.fundamental(leader))
        return math.exp(log)

    def edges(self) -> Iterator[Edge]:
        """Leader to follower: the weight w, a pure number that may be negative."""
        said = self.market.scenario.channels.correlation
        for edges in (said.follows, said.values):
            for follower, leaders in edges.items():
                yield from (Edge(leader, follower, weight) for leader, weight in leaders.items())
