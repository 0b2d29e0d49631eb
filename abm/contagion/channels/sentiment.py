"""Sentiment: communities of people watch prices and each other, and fear spreads where nobody who trades has lost anything yet."""

import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationInfo, field_validator, model_validator
from scipy.sparse import csr_array

from abm.clock import Seconds
from abm.contagion.channels.base import Channel, ChannelConfig
from abm.contagion.graph import Edge, Network, read_graphml
from abm.exchange.description import Fraction, Frozen

if TYPE_CHECKING:
    from abm.exchange.exchange import Report
    from abm.market import Market

Floats = npt.NDArray[np.float64]

COMMUNITY = "community:"


class Community(Frozen):
    """People who share a mood."""

    traders: tuple[str, ...] = Field((), description="traders who belong to it, by name", examples=[["retail"]])
    watches: dict[str, float] = Field(
        default={}, description="instruments whose prices it looks at, and their weights", examples=[{"btc-spot": 1.0}]
    )
    listens: dict[str, float] = Field(
        default={}, description="communities that it listens to, and their weights", examples=[{"stocks": 0.5}]
    )
    others: Fraction = Field(0.5, description="weight of what it hears beside what it sees; none where it hears nobody")

    @field_validator("watches", "listens")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        for name, weight in value.items():
            if not weight > 0:
                raise ValueError(f"the weight of {name} must be above 0; leave it out")
        return value


class SentimentConfig(ChannelConfig):
    """Sentiment."""

    communities: dict[str, Community] = Field(default={}, description="by name")
    graph: str = Field(
        "",
        description="GraphML file beside the scenario, such as a run's network: its edges of channel sentiment add to watches and listens",
        examples=["friends.graphml"],
    )
    horizon: Seconds = Field(86_400.0, gt=0, description="over which prices are looked at", examples=["1d"])
    strong: Fraction = Field(0.05, description="move over that time that is a strong one", examples=[0.05])
    memory: Seconds = Field(21_600.0, gt=0, description="half-life of a mood", examples=["6h"])
    every: Seconds = Field(60.0, gt=0, description="time between two rounds", examples=["1min"])

    @model_validator(mode="after")
    def _known(self) -> "SentimentConfig":
        for name, community in self.communities.items():
            for heard in community.listens:
                if heard not in self.communities or heard == name:
                    raise ValueError(f"communities.{name}.listens: {heard!r} is not another community")
        members = [member for community in self.communities.values() for member in community.traders]
        for member in members:
            if members.count(member) > 1:
                raise ValueError(f"communities: {member!r} belongs to two of them; leave it in one")
        return self

    def unknown(self, instruments: Collection[str], traders: Collection[str]) -> str:
        """What is wrong with the names used, in one line; empty if nothing is."""
        for name, community in self.communities.items():
            for used, known, key in (
                (community.watches, instruments, "watches"),
                (community.traders, traders, "traders"),
            ):
                for each in used:
                    if each not in known:
                        return f"channels.sentiment.communities.{name}.{key}: {each!r} is not in this scenario"
        return ""

    @field_validator("graph")
    @classmethod
    def _beside(cls, value: str, info: ValidationInfo) -> str:
        folder = (info.context or {}).get("folder", Path()) if value else Path()
        return str(folder / value) if value else ""


class Diffusion:
    """How moods move on a network: x_c <- x_c + (1 - 2^(-dt / memory)) ((1 - l_c) s_c + l_c sum_j w_cj x_j - x_c).

    The opinions of Friedkin and Johnsen (1990), Journal of Mathematical Sociology 15:193: s_c = sum_a v_ca tanh(r_a / strong) is what it sees of
    the assets that it watches, w_cj whom it hears. Weights v and w add up to 1 for each community.

    Args:
        network: Edges of channel `sentiment`, from assets and communities to communities.
        others: l, by node; how much a community gives on others.
        memory: Half-life, seconds.
    """

    def __init__(self, network: Network, others: Mapping[str, float], memory: float) -> None:
        self.communities = [n for n, data in network.nodes(data=True) if data["kind"] == "community"]
        """Nodes, in the order of `mood`."""
        self.assets = [n for n, data in network.nodes(data=True) if data["kind"] == "asset"]
        """Nodes, in the order in which `step` wants returns."""
        self._sees = self._weights(network, self.assets)
        self._hears = self._weights(network, self.communities)
        gives = np.array([others[name] for name in self.communities])
        self._others = np.where(np.diff(self._hears.indptr) > 0, gives, 0.0)
        self._memory = memory
        self.mood: Floats = np.zeros(len(self.communities))
        """x, from -1 (fear) to 1 (greed)."""

    def _weights(self, network: Network, sources: list[str]) -> csr_array:
        row = {name: k for k, name in enumerate(self.communities)}
        column = {name: k for k, name in enumerate(sources)}
        edges = [
            (row[v], column[u], float(data["weight"]))
            for u, v, data in network.edges(data=True)
            if data["channel"] == Sentiment.name and u in column and v in row
        ]
        rows, columns, weights = (np.array(x) for x in zip(*edges, strict=True)) if edges else (np.zeros(0, int),) * 3
        matrix = csr_array((weights.astype(np.float64), (rows, columns)), shape=(len(row), len(column)))
        total = np.asarray(matrix.sum(axis=1)).ravel()
        return csr_array(matrix.multiply(1.0 / np.where(total > 0, total, 1.0)[:, None]))

    def step(self, moves: Floats, elapsed: float) -> Floats:
        """Moods after one round.

        Args:
            moves: tanh(r / strong) of each asset.
            elapsed: Seconds since the last round.
        """
        towards = (1.0 - self._others) * (self._sees @ moves) + self._others * (self._hears @ self.mood)
        self.mood += (1.0 - 0.5 ** (elapsed / self._memory)) * (towards - self.mood)
        return self.mood


def _attention(path: str) -> Network:
    """Who watches what and listens to whom, by a GraphML file: its edges of channel `sentiment`, whatever else it has.

    Raises:
        ValueError: It cannot be read, has no such edge, or one is not of attention; one line says which.
    """
    key = "channels.sentiment.graph"
    try:
        graph = read_graphml(path)
    except OSError as error:
        raise ValueError(f"{key}: {path}: {error.strerror or error}") from None
    links: list[Any] = [edge for edge in graph.edges(keys=True) if edge[2] == Sentiment.name]
    if not links:
        raise ValueError(
            f"{key}: {path}: has no edges with channel={Sentiment.name}; give the network of a run with communities, or draw some"
        )
    attention: Network = graph.edge_subgraph(links).copy()
    for source, target, data in attention.edges(data=True):
        edge, weight = f"{key}: {path}: edge {source} -> {target}", data["weight"]
        if attention.nodes[target]["kind"] != "community" or source == target:
            raise ValueError(f"{edge}: attention leads to another community; turn it or leave it out")
        if isinstance(weight, bool) or not 0.0 < weight < math.inf:
            raise ValueError(f"{edge}: needs a weight above 0, not {weight}")
    return attention


class Sentiment(Channel):
    """Communities take on the mood of prices and of each other; see `Diffusion`. Traders of a community read it as `Population.mood`.

    In fear (x < 0) thresholds of panic shrink by 2^x, and followers of the crowd want to be short. Where it is off, every mood is 0.
    """

    name = "sentiment"

    def __init__(self, market: "Market") -> None:
        super().__init__(market)
        self._config = market.scenario.channels.sentiment
        graph = self._network()
        others = {COMMUNITY + name: community.others for name, community in self._config.communities.items()}
        self.diffusion = Diffusion(graph, others, self._config.memory)
        """The moods, and how they move."""
        self._edges = [Edge(u, v, data["weight"]) for u, v, data in graph.edges(data=True)]
        place = {name: k for k, name in enumerate(self.diffusion.communities)}
        self._of = {
            member: place[COMMUNITY + name] for name, c in self._config.communities.items() for member in c.traders
        }
        self._looked_at = 0.0

    def _network(self) -> Network:
        """Who watches what and listens to whom, by the scenario and its GraphML file."""
        graph: Network = _attention(self._config.graph) if self._config.graph else nx.MultiDiGraph()
        known: dict[str, Any] = {name: {"kind": "asset"} for name in self.market.scenario.instruments}
        known |= {COMMUNITY + name: {"kind": "community"} for name in self._config.communities}
        for node in graph:
            if node not in known:
                raise ValueError(
                    f"channels.sentiment.graph: {self._config.graph}: {node} is neither an instrument nor a community of this scenario; "
                    "name it there, or leave it out of the file"
                )
        graph.add_nodes_from(known.items())
        for name, community in self._config.communities.items():
            heard = {COMMUNITY + other: weight for other, weight in community.listens.items()}
            for source, weight in (community.watches | heard).items():
                graph.add_edge(source, COMMUNITY + name, self.name, channel=self.name, weight=weight)
        return graph

    def mood(self, trader: str) -> float:
        """Mood of a trader's community, from -1 (fear) to 1 (greed); 0 for who belongs to none."""
        place = self._of.get(trader)
        return 0.0 if place is None else float(self.diffusion.mood[place])

    def edges(self) -> Iterator[Edge]:
        """Asset or community to who watches or hears it: the weight, a pure number."""
        yield from self._edges

    def nodes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each community's mood now."""
        for name, mood in zip(self.diffusion.communities, self.diffusion.mood.tolist(), strict=True):
            yield name, {"kind": "community", "mood": mood}

    def spread(self, report: "Report") -> None:
        """Let communities look and listen, where it is time."""
        elapsed = self.market.seconds - self._looked_at
        if elapsed < self._config.every or not self.diffusion.communities:
            return
        self._looked_at = self.market.seconds
        view, horizon = self.market.view(), self._config.horizon
        moves = np.tanh([view[name].return_over(horizon) / self._config.strong for name in self.diffusion.assets])
        self.diffusion.step(moves, elapsed)
