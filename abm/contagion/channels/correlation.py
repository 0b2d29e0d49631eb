"""Correlation trading: what moves in one market is taken for news in another, whether or not it is."""

from collections.abc import Collection, Iterator

from pydantic import Field, field_validator

from abm.contagion.channels.base import Channel, ChannelConfig
from abm.contagion.graph import Edge


class CorrelationConfig(ChannelConfig):
    """Which instruments are traded because others moved."""

    follows: dict[str, dict[str, float]] = Field(
        default={},
        description="by follower: its leaders, and the return that is inferred from a return of 1 of each",
        examples=[{"btc-perp": {"ndx": 0.5}}],
    )

    @field_validator("follows")
    @classmethod
    def _of_others(cls, value: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for follower, leaders in value.items():
            for leader, weight in leaders.items():
                if leader == follower:
                    raise ValueError(f"{follower} cannot follow itself; leave it out")
                if weight == 0.0:
                    raise ValueError(f"{follower}: the weight of {leader} is 0; leave it out")
        return value

    def unknown(self, instruments: Collection[str]) -> str:
        """What is wrong with the names used, in one line; empty if nothing is."""
        for follower, leaders in self.follows.items():
            for name in (follower, *leaders):
                if name not in instruments:
                    return f"channels.correlation.follows.{follower}: {name!r} is not traded here"
        return ""


class Correlation(Channel):
    """A return r of a leader is taken for news that is worth w r in its follower, whose price it then moves: dP_1 = own + w dP_2.

    King and Wadhwani (1990), Review of Financial Studies 3:5: who cannot see what is known in another market infers it from the price there, and so
    takes on its mistakes too. Traders of the kind `correlation_traders` act on the edges. Where it is off, they keep what they have.
    """

    name = "correlation"

    def edges(self) -> Iterator[Edge]:
        """Leader to follower: the weight w, a pure number that may be negative."""
        for follower, leaders in self.market.scenario.channels.correlation.follows.items():
            yield from (Edge(leader, follower, weight) for leader, weight in leaders.items())
