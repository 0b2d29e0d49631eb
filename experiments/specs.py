"""Specifications of commands: where they are kept, and one line for what is wrong with one."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ValidationError

from abm.scenario import ScenarioError, configs, meant, models_in, read_mapping


def find(folder: str, name: str, what: str) -> Path:
    """The file of a specification: one that is kept, or a path.

    Args:
        folder: In `configs/`, such as `sweeps`.
        name: Of a file there, or a path.
        what: What it is, such as `sweep`.

    Raises:
        ScenarioError: There is none.
    """
    known = {path.stem: path for path in sorted((configs() / folder).glob("*.yaml"))}
    path = known.get(name, Path(name))
    if not path.is_file():
        raise ScenarioError(f"{name}: no such {what}{meant(name, known)}; give a name in configs/{folder}, or a file")
    return path


def read[M: BaseModel](path: Path, model: type[M], what: str) -> M:
    """What a file says, as a model.

    Raises:
        ScenarioError: It is wrong; the line names the file, the key and the fix.
    """
    try:
        return model.model_validate(read_mapping(path, f"a {what}"))
    except ValidationError as error:
        raise ScenarioError(f"{path.name}: {explained(error, model)}") from None


def explained(error: ValidationError, model: type[BaseModel]) -> str:
    """One line for the first of some errors of a model."""
    details = error.errors(include_url=False)
    first = details[0]
    key, parent = ".".join(map(str, first["loc"])), _parent(first["loc"], model)
    last = str(first["loc"][-1]) if first["loc"] else ""
    known = {field.alias or name: field for name, field in parent.model_fields.items()}
    if first["type"] == "extra_forbidden":
        text = f"{key} is not a key{meant(last, known) or f'; there are {", ".join(known)}'}"
    elif first["type"] == "missing":
        examples = known[last].examples
        text = f"{key} is missing{f', such as {examples[0]}' if examples else ''}"
    else:
        message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        text = f"{key}: {message}" if first["type"] == "value_error" else f"{key} = {first['input']!r} {message}"
    return text.removeprefix(": ") + (f" (and {len(details) - 1} more)" if len(details) > 1 else "")


def _parent(loc: tuple[int | str, ...], model: type[BaseModel]) -> type[BaseModel]:
    """The model whose field the last part of a location is; parts that are no fields are keys of mappings, or places of lists."""
    for part in loc[:-1]:
        field = model.model_fields.get(str(part))
        below: Iterator[type[BaseModel]] = models_in(field.annotation) if field else iter(())
        model = next(below, model)
    return model
