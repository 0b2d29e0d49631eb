"""One frozen description of a run: read from YAML, based on another one, changed by overrides, refused in one clear line.

Scenarios are kept in `configs/scenarios`. A key that does not exist, a value of the wrong type or beyond its bounds is an error that
names the file, the key and the fix.
"""

import difflib
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SerializeAsAny,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from abm.agents import TraderConfig, kinds
from abm.clearing.rules import Mark
from abm.clock import Clock, Seconds, Utc, seconds
from abm.contagion.channels import Channels
from abm.exchange.description import Frozen
from abm.exchange.instrument import Instrument
from abm.keeping import kept
from abm.links import Link, clash, merge, switched_off
from abm.world.fundamental import Fundamental
from abm.world.news import News, unknown_names

_log = logging.getLogger(__name__)


class ScenarioError(ValueError):
    """A scenario cannot be used; the text is one line that names the file, the key and the fix."""


_MOMENT = TypeAdapter(Utc)


def _exports(value: Any) -> Any:
    """Seconds of a duration, or the moments of a list."""
    if isinstance(value, list | tuple):
        try:
            return tuple(sorted(_MOMENT.validate_python(moment) for moment in value))
        except ValidationError as error:
            raise ValueError(
                f"{error.errors()[0]['input']!r} is not a moment; write one such as 2026-02-05T14:30Z"
            ) from None
    try:
        return value if value is None else seconds(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is neither a duration such as 1h nor a list of moments (UTC)") from None


class Recording(Frozen):
    """What a run keeps."""

    interval: Seconds = Field(60.0, gt=0, description="duration of a bar and of a depth sample", examples=["1min"])
    depth_bps: float = Field(
        100.0, gt=0, le=10_000, description="depth is counted within this many basis points of the mid"
    )
    profile_bps: tuple[Annotated[float, Field(gt=0, le=10_000)], ...] = Field(
        (),
        description="depth is also counted within each of these, basis points; columns of bars such as bid_depth_25bp",
        examples=[[5, 10, 25, 50, 100]],
    )
    trades: bool = Field(True, description="whether each trade is kept as a row")
    orders: bool = Field(
        False,
        description="whether each message is kept too, with what became of it, and each event: 100 bytes a message on disk",
    )
    network: Annotated[float | tuple[Utc, ...] | None, BeforeValidator(_exports)] = Field(
        None,
        description="time between two exports of the network, or moments (UTC); at start and end in any case",
        examples=["1h", ["2026-02-05T14:30Z"]],
    )

    def unfit(self, clock: Clock) -> str:
        """What does not fit the clock, in one line; empty if nothing."""
        if self.orders and not self.trades:
            return "recording.orders needs recording.trades: true, since messages and trades are read together"
        spans = {"interval": self.interval} | ({"network": self.network} if isinstance(self.network, float) else {})
        for key, span in spans.items():
            if not _whole(span / clock.step) or span < clock.step:
                return f"recording.{key} must be a whole number of steps (clock.step)"
        for moment in self.network if isinstance(self.network, tuple) else ():
            if wrong := _no_step("recording.network", moment, clock):
                return wrong
        return ""


def _whole(number: float) -> bool:
    return abs(number - round(number)) <= 1e-6


def _no_step(key: str, moment: datetime, clock: Clock) -> str:
    """What is wrong with a moment that is to be the beginning of a step, in one line; empty if nothing."""
    written = f"{key}: {moment:%Y-%m-%dT%H:%M:%SZ}"
    if not clock.start <= moment <= clock.end:
        return f"{written} is not within the run (clock.start to clock.end); leave it out"
    if not _whole(clock.units(clock.seconds_at(moment))):
        return f"{written} is not the beginning of a step (clock.step); move it"
    return ""


class Branch(Frozen):
    """From when on a run has other chance: one of many continuations of the same past."""

    at: Utc = Field(description="until then the run is as without a branch, UTC", examples=["2026-02-05T12:00Z"])
    seed: int = Field(ge=0, lt=2**63, description="seed of all random streams from then on", examples=[1])

    def unfit(self, clock: Clock) -> str:
        """What does not fit the clock, in one line; empty if nothing."""
        if self.at == clock.end:
            return "branch.at must be earlier than clock.end"
        return _no_step("branch.at", self.at, clock)


class Comparison(Frozen):
    """What is particular to this scenario where it is held against an observation."""

    role: Literal["input", "fitted", "predicted"] | None = Field(
        None, description="put in, fitted to, or neither; that of the observations file where not given"
    )
    note: str = Field("", description="what a reader must know")


def _configured(value: Any, info: ValidationInfo) -> Any:
    """A trader's configuration from its mapping; `kind` says which class."""
    if not isinstance(value, Mapping):
        return value
    cls = kinds().get(str(value.get("kind")))
    if cls is None:
        raise PydanticCustomError("unknown_kind", "unknown kind of trader")
    return cls.config_class.model_validate(value, context=info.context)


ABOUT = {"description", "caveat", "inputs", "fitted", "links", "observations", "compare"}
"""Keys that a run does not depend on."""


class Scenario(Frozen):
    """One run: what is traded, by whom, from when to when, with which seed."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", description="name", examples=["february-2026"])
    description: str = Field("", description="one sentence")
    caveat: str = Field("", description="what the run must not be read as saying; printed below its comparison")
    seed: int = Field(1, ge=0, lt=2**63, description="seed of all random streams")
    clock: Clock = Field(description="start, end and step")
    branch: Branch | None = Field(None, description="from when on chance is another; none where it is left out")
    instruments: dict[str, Instrument] = Field(min_length=1, description="what is traded, by name")
    fundamentals: dict[str, Fundamental] = Field(
        default={}, description="news about what is traded, by name; none where it is left out"
    )
    day_before: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={},
        description="prices a day before the start, for who looks back that far: from there prices went evenly; else as at the start",
        examples=[{"btc-spot": 75_770}],
    )
    news: News = Field(News(), description="common factors of values, and a calendar of events")
    channels: Channels = Field(
        Channels(), description="how assets and holders infect each other; each can be switched off"
    )
    traders: dict[str, Annotated[SerializeAsAny[TraderConfig], BeforeValidator(_configured)]] = Field(
        default={}, description="who trades, by name"
    )
    spare_accounts: int = Field(64, ge=0, le=1_000_000, description="accounts for traders that join later, by hand")
    insurance_fund: float = Field(
        100e6,
        ge=0,
        description="currency in the insurance fund at the start, where an instrument has margin",
        examples=[100e6],
    )
    recording: Recording = Field(Recording(), description="what is kept")
    inputs: dict[str, str] = Field(default={}, description="what is put in: key of this scenario, and its source")
    fitted: dict[str, str] = Field(
        default={},
        description="what is fitted: key of this scenario, and to what; such a key is no input; nothing in its place: not fitted here",
    )
    links: dict[str, Link] = Field(
        default={},
        description="links of the chain that abm ablate switches off, by name",
        examples=[{"flight": {"off": {"channels.flight": False}}}],
    )
    observations: str = Field("", description="file in configs/observations that the run is held against")
    compare: dict[str, Comparison] = Field(
        {},
        description="by id of an observation: what is particular to this scenario",
        examples=[{"btc.open.feb5": {"role": "input"}}],
    )

    @field_validator("instruments", mode="before")
    @classmethod
    def _name_instruments(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: {"name": k, **v} if isinstance(v, Mapping) else v for k, v in value.items()}
        return value

    @field_validator("traders", mode="before")
    @classmethod
    def _name_kinds(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                k: {**v, "kind": v.get("kind") or k} if isinstance(v, Mapping) else v
                for k, v in value.items()
                if v is not None
            }
        return value

    @field_validator("links", mode="before")
    @classmethod
    def _leave_out_links(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _fits_together(self) -> "Scenario":
        for name, instrument in self.instruments.items():
            if instrument.name != name:
                raise ValueError(f"instruments.{name}.name is {instrument.name!r}; leave it out")
            if instrument.reference_price is None:
                raise ValueError(f"instruments.{name}.reference_price is missing: a run needs a price to open at")
        for name, instrument in self.instruments.items():
            mark = instrument.margin.mark if instrument.margin else None
            for venue in mark.index if isinstance(mark, Mark) else ():
                if venue not in self.instruments or venue == name:
                    raise ValueError(
                        f"instruments.{name}.margin.mark.index: {venue!r} is not another instrument here{meant(venue, self.instruments)}"
                    )
        for name in self.fundamentals:
            if name not in self.instruments:
                raise ValueError(f"fundamentals.{name}: not traded here{meant(name, self.instruments)}")
            of = self.fundamentals[name].of
            if of and (
                of not in self.instruments or of == name or (of in self.fundamentals and self.fundamentals[of].of)
            ):
                raise ValueError(
                    f"fundamentals.{name}.of: {of!r} is not another instrument with a value of its own{meant(of, self.instruments)}"
                )
        for follower, leaders in self.channels.correlation.values.items():
            for leader in leaders:
                if (of := self.fundamentals.get(leader, Fundamental()).of) in self.channels.correlation.values:
                    raise ValueError(
                        f"channels.correlation.values.{follower}: {leader} is a claim on {of}, which is valued by its leaders itself"
                    )
        for name in self.day_before:
            if name not in self.instruments:
                raise ValueError(f"day_before.{name}: not traded here{meant(name, self.instruments)}")
        wrong = unknown_names(self.news, self.fundamentals, self.instruments)
        wrong = wrong or self.channels.sentiment.unknown(self.instruments, self.traders)
        wrong = wrong or self.channels.margin_notices.wrong(self.instruments)
        wrong = wrong or self.channels.correlation.unknown(self.instruments)
        wrong = wrong or self.recording.unfit(self.clock)
        wrong = wrong or (self.branch.unfit(self.clock) if self.branch else "")
        if wrong:
            raise ValueError(wrong)
        for name, trader in self.traders.items():
            if name in self.instruments:
                raise ValueError(f"traders.{name}: an instrument has this name; choose another")
            if trader.instrument not in self.instruments:
                raise ValueError(
                    f"traders.{name}.instrument: {trader.instrument!r} is not traded here{meant(trader.instrument, self.instruments)}"
                )
            for traded in trader.traded:
                if traded not in self.instruments:
                    raise ValueError(f"traders.{name}: {traded!r} is not traded here{meant(traded, self.instruments)}")
        return self

    def loadings(self, instrument: str) -> dict[str, float]:
        """How much of each factor's moves an instrument's value takes on, by factor; of a claim, those of what it is a claim on."""
        value = self.fundamentals.get(instrument, Fundamental())
        return self.loadings(value.of) if value.of else value.loadings

    def without(self, links: Iterable[str]) -> "Scenario":
        """This scenario with some of its links switched off; it has no links any more.

        Raises:
            KeyError: It has no such link.
            ValidationError: Something does not fit together then.
        """
        off = [self.links[name] for name in links]
        return type(self).model_validate(switched_off(self, off) | {"links": {}})

    @property
    def hash(self) -> str:
        """Hash of everything that the run depends on, the seed included."""
        content = self.model_dump(mode="json", exclude=ABOUT)
        if self.branch is None:  # as it was before there were branches
            del content["branch"]
        if not self.day_before:
            del content["day_before"]
        if not self.recording.orders:
            del content["recording"]["orders"]
        graph = Path(self.channels.sentiment.graph)
        if self.channels.sentiment.graph and graph.is_file():  # what it says, wherever it is kept
            content["channels"]["sentiment"]["graph"] = hashlib.sha256(graph.read_bytes()).hexdigest()
        for name, trader in self.traders.items():
            for key, file in getattr(trader, "files", {}).items():  # of recorded markets, likewise
                if file.is_file():
                    content["traders"][name][key] = hashlib.sha256(file.read_bytes()).hexdigest()
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# ---------------------------------------------------------------------------------------------------------------- files


def configs() -> Path:
    """Where scenarios and observations are kept: beside `abm/` in a checkout, inside it once installed."""
    inside = Path(__file__).parent / "_configs"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "configs"


def scenario_files() -> dict[str, Path]:
    """All scenarios that are kept, by name."""
    return {path.stem: path for path in sorted((configs() / "scenarios").glob("*.yaml"))}


class _Loader(yaml.SafeLoader):
    """YAML in which 272e6 is a number, `on` and `off` are words where they are keys, a key stands once, and `<<` lays a mapping below another."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:bool":
                key_node.tag = "tag:yaml.org,2002:str"
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        super().flatten_mapping(node)
        # What a mapping says itself comes last; it may be merged into others, and looked at again
        node.value = list({(key.tag, key.value): (key, value) for key, value in node.value}.values())


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+"),
    list("-+.0123456789"),
)


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ScenarioError(
            f"{source}{f', line {mark.line + 1}' if mark else ''}: {error.problem or 'not YAML'}"
        ) from None
    except yaml.YAMLError as error:
        raise ScenarioError(f"{source}: not YAML ({str(error).splitlines()[0]})") from None


def read_mapping(path: Path, what: str = "a scenario") -> dict[str, Any]:
    """What a YAML file says.

    Raises:
        ScenarioError: It cannot be read, or is not a mapping.
    """
    try:
        _log.info("reads %s from %s", what, path)
        raw = _parse(path.read_text("utf-8"), path.name)
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ScenarioError(f"{path}: not a text file in UTF-8") from None
    if not isinstance(raw, dict):
        raise ScenarioError(f"{path.name}: {what} is a mapping of keys to values (abm schema)")
    return raw


def _find(name: str, beside: Path | None = None) -> Path:
    known = scenario_files()
    if name in known:
        return known[name]
    candidates = [Path(name)] if beside is None else [beside / name, beside / f"{name}.yaml"]
    for path in candidates:
        if path.is_file():
            return path
    if os.sep in name or name.endswith((".yaml", ".yml")):
        raise ScenarioError(f"{name}: no such file (abm list shows the scenarios that are kept)")
    raise ScenarioError(f"{name}: no such scenario{meant(name, known)} (abm list)")


def _resolve(path: Path, chain: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The mapping of a file, laid over what it is based on."""
    if path in chain:
        raise ScenarioError(
            f"{path.name}: based_on goes round in a circle: {' -> '.join(p.stem for p in (*chain, path))}"
        )
    raw = read_mapping(path)
    base = raw.pop("based_on", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise ScenarioError(f"{path.name}: based_on: write the name of a scenario (abm list)")
    try:
        below = _resolve(_find(base, path.parent), (*chain, path))
    except ScenarioError as error:
        raise ScenarioError(f"{path.name}: based_on: {error}") from None
    if raw.get("observations", below.get("observations")) != below.get("observations"):
        below = {key: value for key, value in below.items() if key != "compare"}  # it is about rows of another file
    return merge(below, raw)


def nested(key: str, value: Any) -> dict[str, Any]:
    """The mapping in which a value stands at a dotted key."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def load(name_or_path: str | Path, **overrides: Any) -> Scenario:
    """Read a scenario.

    Args:
        name_or_path: Name of one that is kept (`abm list`), or path of a YAML file.
        **overrides: Values laid over it: `seed=7`, `clock={"end": ...}`, or dotted keys `**{"traders.noise.accounts": 10}`.

    Raises:
        ScenarioError: There is none, or it is wrong; one line says where and how to mend it.
    """
    return load_with(name_or_path, [nested(key, value) for key, value in overrides.items()])


def load_with(name_or_path: str | Path, changes: Iterable[Mapping[str, Any]]) -> Scenario:
    """Read a scenario and lay mappings over it, one after the other; see `load`."""
    return reader(name_or_path)(changes)


def reader(name_or_path: str | Path) -> Callable[[Iterable[Mapping[str, Any]]], Scenario]:
    """Read the files of a scenario once; what is returned lays mappings over it, one after the other, as often as it is called."""
    path = _find(str(name_or_path))
    read = _resolve(path)

    def laid_over(changes: Iterable[Mapping[str, Any]]) -> Scenario:
        raw, changes = read, list(changes)
        for change in changes:
            _log.debug("lays over %s: %s", path.stem, change)
            raw = merge(raw, change)
        named = {**raw, "name": raw.get("name", path.stem)}
        source = path.name if path.stem not in scenario_files() else path.stem
        return _validated(named, source, path.parent, changes)

    return laid_over


def assignment(text: str) -> dict[str, Any]:
    """The mapping of `key.path=value`; the value is read as YAML.

    Raises:
        ScenarioError: It is not of that form.
    """
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
        raise ScenarioError(f"{text!r}: write key.path=value, such as traders.noise.accounts=100 (abm schema)")
    return nested(key, _parse(value, key))


# --------------------------------------------------------------------------------------------------------------- errors


def _validated(raw: dict[str, Any], source: str, folder: Path, changes: Sequence[Mapping[str, Any]] = ()) -> Scenario:
    try:
        part = kept(raw)
        for change in changes:
            if lost := _lost(change, raw, part):
                raise ValueError(
                    f"{lost}: keep leaves this out, as it has {', '.join(raw['keep'])} alone; set it without keep"
                )
        raw = _without_gone(part)
    except ValueError as error:
        raise ScenarioError(f"{source}: {error}") from None
    try:
        scenario = Scenario.model_validate(raw, context={"folder": folder})
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=True)
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        raise ScenarioError(f"{source}: {_explain(details[0], raw)}{more}") from None
    dumped = scenario.model_dump()
    told = [*(("inputs", key) for key in scenario.inputs), *(("fitted", key) for key in scenario.fitted)]
    for name, link in scenario.links.items():
        told += [(f"links.{name}.off", key) for key, value in link.off.items() if value is None]
    for section, key in told:
        try:
            value_at(dumped, key)
        except KeyError:
            raise ScenarioError(f"{source}: {section}: {key} is not a key of this scenario (abm schema)") from None
    _check_links(scenario, dumped, source)
    return scenario


def _lost(change: Mapping[str, Any], whole: Mapping[str, Any], part: Any, above: str = "") -> str:
    """The first dotted key of a change that is in the whole scenario and not in the part that is kept; empty if there is none."""
    for key, value in change.items():
        if value is None or whole.get(key) is None or f"{above}{key}" in ("keep", "inputs", "fitted"):
            continue
        if not isinstance(part, Mapping) or part.get(key) is None:
            return f"{above}{key}"
        if isinstance(value, Mapping) and (lost := _lost(value, whole[key], part[key], f"{above}{key}.")):
            return lost
    return ""


def _without_gone(raw: dict[str, Any]) -> dict[str, Any]:
    """What is told of keys, without those of traders that were taken out; a link that says nothing else goes too.

    What is fitted is no input, but a key that a scenario leaves unfitted by nothing in its place may be one.
    """
    traders, fitted = raw.get("traders"), raw.get("fitted")
    if isinstance(fitted, Mapping):
        fitted = {key: why for key, why in fitted.items() if why is not None}
        raw = {**raw, "fitted": fitted}
    gone = tuple(f"traders.{n}." for n, body in traders.items() if body is None) if isinstance(traders, Mapping) else ()

    def left(keys: Any, but: Any = ()) -> Any:
        if not isinstance(keys, Mapping):
            return keys
        return {k: v for k, v in keys.items() if not f"{k}.".startswith(gone) and k not in but}

    def left_of(link: Any) -> Any:
        off = link.get("off") if isinstance(link, Mapping) else None
        if not off:
            return link
        return {**link, "off": left(off)} if left(off) else None

    told: dict[str, Any] = {section: left(raw[section]) for section in ("inputs", "fitted") if section in raw}
    if isinstance(fitted, Mapping) and "inputs" in told:
        told["inputs"] = left(told["inputs"], but=fitted)
    if isinstance(links := raw.get("links"), Mapping):
        told["links"] = {name: left_of(link) for name, link in links.items()}
    return raw | told


def _check_links(scenario: Scenario, dumped: Mapping[str, Any], source: str) -> None:
    """Refuse links that do not go together, or leave a scenario that is none."""
    if wrong := clash(scenario.links):
        raise ScenarioError(f"{source}: {wrong}")
    together = [[name] for name in scenario.links] + [list(scenario.links)]
    for names in together if scenario.links else ():
        try:
            scenario.without(names)
        except ValidationError as error:
            detail = error.errors(include_url=False, include_input=True)[0]
            raw = switched_off(dumped, [scenario.links[name] for name in names])
            which = f"links.{names[0]}.off" if len(names) == 1 else "links, all off"
            raise ScenarioError(f"{source}: {which}: {_explain(detail, raw)}") from None


def value_at(dumped: Mapping[str, Any], key: str) -> Any:
    """What stands at a dotted key of a scenario that was dumped.

    Raises:
        KeyError: There is no such key.
    """
    here: Any = dumped
    for part in key.split("."):
        if not isinstance(here, Mapping):
            raise KeyError(key)
        here = here[part]
    return here


def meant(word: object, known: Iterable[str], prefix: str = "") -> str:
    """`. Did you mean ...?` with the known word nearest to `word`; empty where none is near."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f". Did you mean {prefix}{close[0]}?" if close else ""


def _explain(detail: ErrorDetails, raw: Mapping[str, Any]) -> str:
    """One line for one error of validation."""
    path, parent = _locate(detail["loc"], raw)
    key, kind = ".".join(path), detail["type"]
    see = f" (abm schema {path[0]})" if path and path[0] in Scenario.model_fields else " (abm schema)"
    if kind in ("extra_forbidden", "unknown_kind"):
        prefix = ".".join(path[:-1]) + "." if len(path) > 1 else ""
        known = kinds() if kind == "unknown_kind" else (parent.model_fields if parent else ())
        body = raw.get("traders", {}).get(path[-1]) if kind == "unknown_kind" else None
        if isinstance(body, Mapping) and body.get("kind"):
            return f"{key}.kind: {body['kind']!r} is not a kind of trader{meant(body['kind'], known)}{see}"
        return f"{key} is not a key{meant(path[-1], known, prefix)}{see}"
    if kind == "missing":
        field = parent.model_fields.get(path[-1]) if parent else None
        example = f", such as {field.examples[0]}" if field is not None and field.examples else ""
        return f"{key} is missing{example}{see}"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if kind == "value_error":
        return f"{key}: {message}{see}" if key else message
    return f"{key} = {detail['input']!r} {message}{see}"


_NAMED: Mapping[str, type[BaseModel]] = {"instruments": Instrument, "links": Link}


def _locate(loc: tuple[int | str, ...], raw: Any) -> tuple[list[str], type[BaseModel] | None]:
    """The key path of an error, without the tags of unions, and the model whose field its last part is."""
    path: list[str] = []
    model: type[BaseModel] | None = Scenario
    here: Any = raw
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        inside = isinstance(here, Mapping) and part in here
        indexed = isinstance(here, list | tuple) and isinstance(part, int)
        if not (inside or indexed or last):
            continue
        if path and path[-1] == "traders" and isinstance(part, str) and inside and isinstance(here, Mapping):
            body = here[part]
            cls = kinds().get(str((body or {}).get("kind") or part)) if isinstance(body, Mapping | None) else None
            below: type[BaseModel] | None = cls.config_class if cls else None
        elif path and path[-1] in _NAMED:
            below = _NAMED[path[-1]]
        else:
            below = (
                _model_of(model.model_fields[str(part)].annotation)
                if model and str(part) in model.model_fields
                else None
            )
        if last:
            return [*path, str(part)], model
        path.append(str(part))
        here = here[part] if inside or indexed else None
        model = below if below is not None or not indexed else model
    return path, model


def _model_of(annotation: Any) -> type[BaseModel] | None:
    for model in models_in(annotation):
        return model
    return None


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """All pydantic models that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)
