"""What all channels are: a way in which what happens to one asset or holder reaches another, that can be switched off."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from abm.contagion.graph import Edge
from abm.exchange.description import Frozen

if TYPE_CHECKING:
    from abm.exchange.exchange import Report
    from abm.market import Market


class ChannelConfig(Frozen):
    """A channel; `off` stands for `{on: off}`."""

    on: bool = Field(True, description="whether it carries anything")

    @model_validator(mode="before")
    @classmethod
    def _switch(cls, value: object) -> object:
        if not isinstance(value, bool | Mapping | ChannelConfig):
            raise ValueError("write on, off or a mapping")
        return {"on": value} if isinstance(value, bool) else value


class Channel:
    """One channel of a run.

    A channel says what its edges are now, and may do something after each step. Much of what happens is done by traders: kinds that carry a
    channel name it (`Population.channel`), and send nothing where it is off.
    """

    name: ClassVar[str]
    """Key under `channels` in a scenario, and `channel` of its edges."""

    def __init__(self, market: "Market") -> None:
        """Begin to carry, before any trader has joined."""
        self.market = market

    def edges(self) -> Iterator[Edge]:
        """What it links now: by default what those say who carry it (`Population.links`)."""
        for population in self.market.populations:
            if population.channel == self.name:
                yield from population.links()

    def nodes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Nodes of its own with what is known of them now, `kind` among it; those of edges need not be named."""
        yield from ()

    def spread(self, report: "Report") -> None:
        """Carry on what a step brought."""
