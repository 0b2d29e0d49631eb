"""The keys of a scenario, read from its models: type, default, bounds, meaning."""

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from abm.agents import kinds
from abm.scenario import Scenario, ScenarioError, meant, models_in

_BOUNDS = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))


@dataclass(frozen=True)
class Key:
    """One key of a section."""

    key: str
    type: str
    default: str
    bounds: str
    description: str

    @property
    def about(self) -> str:
        """Meaning, type and bounds in one phrase."""
        return f"{self.description} ({', '.join(filter(None, (self.type, self.bounds)))})".strip()


def describe(section: str) -> tuple[str, list[Key]]:
    """What a section is, and its keys.

    Args:
        section: Dotted path such as `clock` or `traders.noise`; empty for the whole scenario.

    Raises:
        ScenarioError: There is no such section.
    """
    models: list[type[BaseModel]] = [Scenario]
    parts = section.split(".") if section else []
    for position, part in enumerate(parts):
        here = ".".join(parts[:position])
        if here == "traders":
            if part not in kinds():
                raise ScenarioError(
                    f"{section}: {part!r} is not a kind of trader{meant(part, kinds())} (abm schema traders)"
                )
            models = [kinds()[part].config_class]
            continue
        if here == "instruments" and part not in models[0].model_fields:
            continue  # the name of an instrument
        fields = {name: field for model in models for name, field in model.model_fields.items()}
        if part not in fields:
            if position == 0 and part in kinds():
                return describe(f"traders.{section}")
            prefix = f"{here}." if here else ""
            raise ScenarioError(
                f"{section}: {prefix}{part} is not a key{meant(part, fields, prefix)} (abm schema{' ' + here if here else ''})"
            )
        models = list(models_in(fields[part].annotation))
        if not models:
            field = fields[part]
            return f"{section}: {field.description or ''}", [_key(part, field)]
    if section == "traders":
        rows = [Key(kind, "section", "", "", _first(cls.__doc__)) for kind, cls in kinds().items()]
        return "traders: who trades, by name; the keys of a kind: abm schema traders.<kind>", rows
    title = "; ".join(_first(model.__doc__) for model in models)
    many = len(models) > 1
    if many:
        title = "a list, each entry one of: " + "; ".join(f"{_tag(model)}{_first(model.__doc__)}" for model in models)
    return f"{section or 'a scenario'}: {title}", [
        key for model in models for key in _keys(model, _tag(model) if many else "", depth=2 if section else 0)
    ]


def _keys(model: type[BaseModel], prefix: str, depth: int, given: Any = None) -> Iterator[Key]:
    """Keys of a model and, to a depth, of the models in it; `given` is an instance that stands as its default."""
    for name, field in model.model_fields.items():
        if name == "rule" and prefix.endswith(": "):
            continue  # the prefix says it
        default = getattr(given, name, field.get_default(call_default_factory=True))
        yield _key(prefix + name, field, default)
        inner = [] if depth == 0 else list(models_in(field.annotation))
        for below in inner:
            inside = default if isinstance(default, below) else None
            yield from _keys(below, f"{prefix}{name}.{_tag(below) if len(inner) > 1 else ''}", depth - 1, inside)


def _tag(model: type[BaseModel]) -> str:
    rule = model.model_fields.get("rule")
    return f"{rule.default}: " if rule is not None else ""


def _key(name: str, field: FieldInfo, value: Any = PydanticUndefined) -> Key:
    bounds = []
    for source in (field, *field.metadata):
        for attribute, sign in _BOUNDS:
            if (bound := getattr(source, attribute, None)) is not None:
                bounds.append(f"{sign} {bound:,}" if isinstance(bound, int) else f"{sign} {bound:g}")
        if (pattern := getattr(source, "pattern", None)) is not None:
            bounds.append(str(pattern))
    if value is PydanticUndefined and field.is_required():
        default = "required" + (f", e.g. {field.examples[0]}" if field.examples else "")
    else:
        default = _shown(field.get_default(call_default_factory=True) if value is PydanticUndefined else value)
    return Key(name, _type(field.annotation), default, ", ".join(bounds), field.description or "")


def _shown(value: Any) -> str:
    if value is None or value is PydanticUndefined or value == "":
        return "-"
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, Mapping | tuple | list):
        if any(isinstance(each, BaseModel) for each in value):
            return "see below"
        text = ", ".join(_shown(each) for each in value) or "none"
        return text if len(text) <= 60 else text[:57] + "..."
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,.10g}"
    return str(value)


def _type(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is typing.Literal:
        return " | ".join(map(str, arguments))
    if origin in (typing.Union, UnionType):
        return " | ".join(dict.fromkeys("none" if each is NoneType else _type(each) for each in arguments))
    if origin is tuple:
        inner = [each for each in arguments if each is not Ellipsis]
        return f"list of {_type(inner[0])}s" if Ellipsis in arguments else f"{len(inner)} x {_type(inner[0])}"
    if origin is dict:
        return f"{_type(arguments[1])} by name"
    names: dict[Any, str] = {float: "number", int: "whole number", str: "text", bool: "yes or no"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _first(text: str | None) -> str:
    return (text or "").strip().splitlines()[0] if text else ""
