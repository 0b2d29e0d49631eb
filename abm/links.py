"""Links of a chain: what of a scenario can be switched off, so that runs with and without it can be compared under common random numbers."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

from pydantic import BaseModel, Field

from abm.exchange.description import Frozen


class Link(Frozen):
    """One link of the chain, and how it is switched off."""

    about: str = Field("", description="what it is, in a few words", examples=["funds' investors take out money"])
    off: dict[str, Any] = Field(
        min_length=1,
        description="what is laid over the scenario to switch it off, by dotted key; a trader laid over with nothing is left out",
        examples=[{"traders.etf": None, "channels.flight": False}],
    )


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`: mappings key by key, everything else replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def switched_off(content: BaseModel | Mapping[str, Any], links: Iterable[Link]) -> dict[str, Any]:
    """The content of a scenario with links switched off. Who is taken out is so whatever else is laid over him.

    Args:
        content: A model, or by key; models in it in which nothing is changed stay as they are.
        links: Which.
    """
    result = _fields(content)
    over = {key: value for link in links for key, value in link.off.items()}
    for key, value in sorted(over.items(), key=lambda item: item[1] is None):
        result = _laid(result, key.split("."), value)
    return result


def _fields(here: Any) -> dict[str, Any]:
    """What stands in a model or mapping, by key; nothing in anything else."""
    if isinstance(here, BaseModel):
        return {name: getattr(here, name) for name in type(here).model_fields}
    return dict(here) if isinstance(here, Mapping) else {}


def _laid(here: Any, parts: list[str], value: Any) -> Any:
    """A value laid over what stands at a path."""
    if not parts:
        base = here.model_dump() if isinstance(here, BaseModel) else here
        return merge(base, value) if isinstance(base, Mapping) and isinstance(value, Mapping) else value
    below = _fields(here)
    below[parts[0]] = _laid(below.get(parts[0]), parts[1:], value)
    return below


def clash(links: Mapping[str, Link]) -> str:
    """Which two links want different things of one key, in one line; empty if there are none."""
    leaves = {name: dict(_leaves(link.off)) for name, link in links.items()}
    for (first, mine), (second, its) in combinations(leaves.items(), 2):
        for key, value in mine.items():
            for other, wanted in its.items():
                above, there = (key, value) if len(key) < len(other) else (other, wanted)
                # Who is taken out by one link is out, whatever the other does with him
                apart = not f"{max(key, other, key=len)}.".startswith(f"{above}.") or there is None
                if (value != wanted) if key == other else not apart:
                    return f"links: {first} and {second} set {above} to different values; make them one link"
    return ""


def _leaves(content: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested mappings."""
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
