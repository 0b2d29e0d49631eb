"""What can be changed of a scenario by sliders: one table, and which of its rows a scenario has.

A control acts as `--set` does: it says from the scenario's own keys which of them get which values. What does not find its keys is not shown.
"""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from abm.scenario import Scenario, ScenarioError, load_with

type Value = float | str
"""What a control is set to: a number, or one of its choices."""
type Settings = Mapping[str, Value]
"""By name of a control: what is set; what is left out is as in the scenario."""
type Path = tuple[str, ...]

LINK, CHANNEL = "link.", "channel."
ON, OFF = "on", "off"
MOST_SEED = 2**53 - 1
"""Seeds beyond this are no whole numbers in a browser."""


@dataclass(frozen=True)
class Control:
    """One row of the table."""

    name: str
    label: str
    keys: str
    """Pattern of the keys it acts on: `*` is any name, `@kind` any trader of a kind."""
    apply: Callable[[Any, Any], Any] = field(repr=False)
    """What a key is given, from what stands there and what the control is set to."""
    about: str
    low: float = 0.0
    high: float = 1.0
    step: float = 0.1
    unit: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    """Of a control that is no slider: what can be chosen, and what each means."""
    own: Callable[[Any], Value] = field(default=lambda _found: 1.0, repr=False)
    """What it stands at where nothing is changed, from what stands at its first key."""
    needs: Callable[[Any], bool] = field(default=bool, repr=False)
    """Whether a key counts, from what stands there."""

    def wrong(self, value: object) -> str:
        """What is wrong with a value, in one line; empty if nothing."""
        if self.choices:
            return "" if value in self.choices else f"{self.label}: choose {' or '.join(self.choices)}"
        fits = isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high
        if fits and (self.step < 1 or value == int(value)):
            return ""
        kind = "a number" if self.step < 1 else "a whole number"
        return f"{self.label}: write {kind} from {self.low:g} to {self.high:g}{f' ({self.unit})' if self.unit else ''}"


def _times(found: Any, factor: float) -> Any:
    return found * factor


def _redemptions(flows: Any, factor: float) -> Any:
    return [{**flow, "usd": flow["usd"] * (factor if flow["usd"] < 0 else 1.0)} for flow in flows]


def _firms(maker: Any, count: float) -> Any:
    """That many firms: capital goes round among those that there are, and each brings or takes away his part of the depth."""
    before = maker["capital"]
    capital = [before[k % len(before)] for k in range(int(count))]
    part = sum(capital) / sum(before)
    books = {name: {**terms, "depth_usd": terms["depth_usd"] * part} for name, terms in maker["books"].items() if terms}
    return {**maker, "accounts": int(count), "capital": capital, "books": books}


def _given(_found: Any, chosen: Any) -> Any:
    return chosen


TABLE = (
    Control(
        "leverage",
        "Leverage, at most",
        "traders.@retail_leverage.leverage.at",
        lambda at, cap: [min(each, cap) for each in at],
        "Nobody may borrow more: who had more leverage has this much, with as large a position and more money behind it.",
        1,
        125,
        1,
        "times",
        own=max,
        needs=lambda at: max(at) > 1,
    ),
    Control(
        "depth",
        "Depth of the books",
        "traders.@market_makers.books.*.depth_usd",
        _times,
        "How much market makers show within 1 % of the price. Less of it: the same sale moves the price further.",
        0.1,
        4,
        0.1,
        "times the scenario's",
    ),
    Control(
        "makers",
        "Market makers",
        "traders.@market_makers",
        _firms,
        "How many firms quote the first book. Who is gone takes his capital and his part of the depth along.",
        1,
        20,
        1,
        "firms",
        own=lambda maker: maker["accounts"],
        needs=lambda maker: maker["accounts"] > 1,
    ),
    Control(
        "exit",
        "Exit from the funds",
        "traders.@etf.flows",
        _redemptions,
        "How much investors take out of the exchange-traded funds, whose desks then sell coins.",
        0,
        4,
        0.1,
        "times the scenario's",
        needs=lambda flows: any(flow["usd"] < 0 for flow in flows),
    ),
    Control(
        "demand",
        "Patient demand",
        "traders.@value.demand",
        _times,
        "How much those who buy below value put in. It is what a fall ends in.",
        0.1,
        4,
        0.1,
        "times the scenario's",
    ),
    Control(
        "panic",
        "Panic of holders",
        "traders.@short_term_holders.panic_effect",
        _times,
        "How much more short-term holders sell when they are at a loss and afraid.",
        0,
        2.5,
        0.1,
        "times the scenario's",
    ),
    Control(
        "news",
        "News by chance",
        "fundamentals.*.volatility",
        _times,
        "How far values move by news that is chance.",
        0,
        3,
        0.1,
        "times the scenario's",
    ),
    Control(
        "noise",
        "Everyday trading",
        "traders.@noise.volume_per_day",
        _times,
        "How much those trade who have no reason that matters here.",
        0.2,
        3,
        0.1,
        "times the scenario's",
    ),
    Control(
        "margin",
        "Margin rule",
        "instruments.*.margin.liquidation.style",
        _given,
        "What is done with an account that has too little margin left.",
        choices={
            "full": "all of it is closed at once",
            "ladder": "as much as makes the account safe again",
            "staged": "a first part of a large one, a pause, then the rest",
        },
        own=str,
    ),
    Control(
        "fund",
        "Insurance fund",
        "insurance_fund",
        _times,
        "What pays when a position is closed at less than it was worth. When it is empty, winners are closed too.",
        0,
        4,
        0.1,
        "times the scenario's",
    ),
)
"""All sliders. A scenario has those whose keys it has."""

_SWITCH = {ON: "as in the scenario", OFF: "switched off"}


class Changeable:
    """What of one kept scenario can be changed, and how it stands there.

    Args:
        name: Of a kept scenario.

    Raises:
        ScenarioError: It cannot be used.
    """

    def __init__(self, name: str) -> None:
        self.scenario = load_with(name, ())
        self._content = self.scenario.model_dump()
        self.controls = {control.name: control for control in (*self._sliders(), *self._switches())}
        """Controls that the scenario has, by name, in the order of the table; then links and channels that can be switched off."""
        self.own: dict[str, Value] = {name: self._own(control) for name, control in self.controls.items()}
        """What each stands at where nothing is changed."""

    def settings(self, given: Mapping[str, object]) -> dict[str, Value]:
        """Of what is given, what differs from the scenario.

        Raises:
            ScenarioError: Something is no control of the scenario, or out of its bounds.
        """
        settings: dict[str, Value] = {}
        for name, value in given.items():
            if name not in self.controls:
                raise ScenarioError(f"{name}: {self.scenario.name} has no such control")
            if wrong := self.controls[name].wrong(value):
                raise ScenarioError(wrong)
            if value != self.own[name]:
                settings[name] = value
        return settings

    def changes(self, settings: Settings) -> dict[str, Any]:
        """Dotted keys and what they are set to, as for `--set`."""
        content, changed = _copy(self._content), {}
        for name, control in self.controls.items():
            if name in settings and not name.startswith(LINK):
                for path in self._paths(control):
                    value = control.apply(_at(content, path), settings[name])
                    _put(content, path, value)
                    changed[path] = value
        links = [link for name, link in self.scenario.links.items() if settings.get(LINK + name) == OFF]
        off = sorted((item for link in links for item in link.off.items()), key=lambda item: item[1] is None)
        dotted = {".".join(path): value for path, value in changed.items()}
        gone = tuple(f"{key}." for key, value in off if value is None)
        dotted = {key: value for key, value in dotted.items() if not f"{key}.".startswith(gone)} if gone else dotted
        return _smallest(dotted | dict(off), self._content)

    def load(self, seed: int, settings: Settings) -> Scenario:
        """The scenario with a seed and what is set.

        Raises:
            ScenarioError: It cannot be used so.
        """
        return load_with(self.scenario.name, self.overrides(seed, settings))

    def overrides(self, seed: int, settings: Settings) -> list[dict[str, Any]]:
        """What is laid over the scenario, as mappings."""
        return [*(_nested(key, value) for key, value in self.changes(settings).items()), {"seed": seed}]

    def command(self, seed: int, settings: Settings) -> str:
        """The same run as a command line."""
        sets = (f"{key}={json.dumps(value, default=_written)}" for key, value in self.changes(settings).items())
        return shlex.join(
            ["abm", "run", self.scenario.name, "--seed", str(seed), *(f for s in sets for f in ("--set", s))]
        )

    def _sliders(self) -> Iterator[Control]:
        yield from (control for control in TABLE if self._paths(control))

    def _switches(self) -> Iterator[Control]:
        """Links of the chain where the scenario names some; else its channels, where there is more than one asset."""
        for name, link in self.scenario.links.items():
            yield Control(LINK + name, _label(name), "", _given, f"Off: {link.about}.", choices=_SWITCH)
        if not self.scenario.links and len({name.partition("-")[0] for name in self.scenario.instruments}) > 1:
            for name, about in type(self.scenario.channels).model_fields.items():
                if self.scenario.channels.on(name):
                    label, told = _label(name), f"Off: not so that {about.description}."
                    keys = f"channels.{name}.on"
                    yield Control(CHANNEL + name, label, keys, lambda _, chosen: chosen == ON, told, choices=_SWITCH)

    def _own(self, control: Control) -> Value:
        if control.choices is _SWITCH:
            return ON
        return control.own(_at(self._content, self._paths(control)[0]))

    def _paths(self, control: Control) -> list[Path]:
        """The keys of the scenario that a control acts on."""
        first = next(iter(self.scenario.instruments))
        found = [
            path for path in _matches(self._content, control.keys.split(".")) if control.needs(_at(self._content, path))
        ]
        if control.name == "makers":
            return [path for path in found if first in _at(self._content, path)["books"]][:1]
        if control.name == "fund":
            return found if any(each.margin for each in self.scenario.instruments.values()) else []
        return found


# ---------------------------------------------------------------------------------------------------------------- paths


def _matches(here: Any, pattern: list[str], so_far: Path = ()) -> Iterator[Path]:
    """Paths of a nested mapping that fit a pattern."""
    if not pattern:
        yield so_far
        return
    part, *rest = pattern
    if not isinstance(here, Mapping):
        return
    for key, below in here.items():
        fits = part in ("*", key) or (
            part.startswith("@") and isinstance(below, Mapping) and below.get("kind") == part[1:]
        )
        if fits and below is not None:
            yield from _matches(below, rest, (*so_far, key))


def _at(here: Any, path: Path) -> Any:
    for part in path:
        here = here[part]
    return here


def _put(here: Any, path: Path, value: Any) -> None:
    _at(here, path[:-1])[path[-1]] = value


def _copy(here: Any) -> Any:
    return {key: _copy(below) for key, below in here.items()} if isinstance(here, Mapping) else here


def _smallest(changes: Mapping[str, Any], content: Any) -> dict[str, Any]:
    """The same changes, where mappings are given only with those of their keys that change."""
    small: dict[str, Any] = {}
    for key, value in changes.items():
        try:
            before = _at(content, tuple(key.split(".")))
        except (KeyError, TypeError):
            before = None
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            small |= _smallest({f"{key}.{part}": below for part, below in value.items()}, content)
        elif value != before:
            small[key] = value
    return small


def _label(name: str) -> str:
    """A key as people read it."""
    return name.replace("_", " ").capitalize().replace("Etf", "ETF")


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def _written(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(type(value))
