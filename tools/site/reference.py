"""The reference pages: names from `__all__`, commands from typer, keys and kinds of traders from the models. None is kept by hand."""

import ast
import html
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

import analysis
from abm.agents import kinds
from abm.scenario import Scenario
from experiments.cli import app
from experiments.replay import app as replay
from experiments.schema import Key, describe

_PACKAGES = {
    "abm": "abm",
    "exchange": "abm.exchange",
    "clearing": "abm.clearing",
    "agents": "abm.agents",
    "contagion": "abm.contagion.measures",
    "testing": "abm.testing",
}
_BESIDE = {"contagion": ("abm.contagion.chain", "abm.contagion.graph", "abm.contagion.fear_and_greed")}
"""Modules that stand on a page beside the package."""
PAGES = tuple(f"reference/{name}.md" for name in (*_PACKAGES, "analysis", "command", "scenario", "traders"))


def pages() -> dict[str, str]:
    """All pages of the reference, by path below the documentation."""
    python = {page: python_page(package, _BESIDE.get(page, ())) for page, package in _PACKAGES.items()}
    found = sorted(f"analysis.{module.name}" for module in pkgutil.iter_modules(analysis.__path__))
    python["analysis"] = python_page("analysis", found)
    texts = python | {"command": command_page(), "scenario": scenario_page(), "traders": traders_page()}
    return {f"reference/{name}.md": text for name, text in texts.items()}


# ---------------------------------------------------------------------------------------------------------------- Python


def python_page(package: str, beside: Iterable[str] = ()) -> str:
    """The public names of a package, and of modules beside it, as mkdocstrings wants them."""
    parts = [f"# {package if package != 'abm.contagion.measures' else 'abm.contagion'}", _prose(package)]
    parts += [f"::: {package}.{name}" for name in public(package)]
    for module in beside:
        if names := public(module):
            parts += [f"## {module}", _prose(module), *(f"::: {module}.{name}" for name in names)]
    return "\n\n".join(parts) + "\n"


def public(module: str) -> list[str]:
    """Classes and functions that a module offers: those of `__all__`, or where it has none those that it defines and documents."""
    here = importlib.import_module(module)
    names = getattr(here, "__all__", None)
    if names is None:
        names = [name for name, what in vars(here).items() if not name.startswith("_") and _own(what, module)]
    documented = [name for name in names if callable(what := getattr(here, name)) and inspect.getdoc(what)]
    return sorted(documented, key=str.lower) if hasattr(here, "__all__") else documented


def _own(what: Any, module: str) -> bool:
    return getattr(what, "__module__", "") == module and bool(getattr(what, "__doc__", None))


def _prose(module: str) -> str:
    """A module's docstring without the example at its end, which its classes have too."""
    path = importlib.import_module(module).__file__
    text = ast.get_docstring(ast.parse(Path(path).read_text("utf-8"))) if path else ""
    return (text or "").partition("\nExample:")[0]


# --------------------------------------------------------------------------------------------------------------- command


def command_page() -> str:
    """What `abm --help` and the help of each command say."""
    root = typer.main.get_command(app)
    parts = [
        "# The command `abm`",
        _text(root.help),
        "Exit status 2: bad input, one line says which. 130: interrupted.",
    ]
    for name, command in sorted(root.commands.items()):  # type: ignore[attr-defined]
        parts += _command(f"abm {name}", typer.main.get_command(replay) if name == "replay" else command)
    return "\n\n".join(part for part in parts if part) + "\n"


def _command(name: str, command: Any, level: int = 2) -> Iterator[str]:
    yield f"{'#' * level} {name}"
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help" and not p.hidden]
    below = getattr(command, "commands", {})
    if not below or arguments or options:
        usage = [name, *(_argument(p) for p in arguments), *(["[OPTIONS]"] if options else [])]
        yield f"    {' '.join(usage)}"
    yield _text(command.help)
    if arguments or options:
        rows = [(f"`{_argument(p)}`", _default(p), p.help or "") for p in arguments]
        rows += [
            (f"`{' '.join([', '.join(p.opts), p.metavar or '']).strip()}`", _default(p), p.help or "") for p in options
        ]
        yield table(("", "default", ""), rows)
    for part, inner in sorted(below.items()):
        yield from _command(f"{name} {part}", inner, level + 1)


def _text(text: str | None) -> str:
    return _escaped(inspect.cleandoc((text or "").partition("\f")[0]))


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def _default(parameter: Any) -> str:
    shown, default = parameter.show_default, parameter.default
    if isinstance(shown, str):
        return shown
    if not shown or default in (None, "", ()) or isinstance(default, bool) or callable(default):
        return ""
    return f"{getattr(default, 'value', default)}"


# -------------------------------------------------------------------------------------------------------------- scenarios


def scenario_page() -> str:
    """Keys of a scenario, as `abm schema` shows them."""
    parts = [
        "# Keys of a scenario",
        "What a YAML file in `configs/scenarios` may say; `abm schema SECTION` prints the same. A key that is not here is refused. "
        "`required` keys have no default. Keys of traders: [kinds of traders](traders.md).",
    ]
    sections = [name for name in Scenario.model_fields if name != "traders" and _is_section(name)]
    for section in ("", *sections):
        parts += [f"## {section or 'At the top'}", _section(section)]
        if section == "channels":
            parts += [f"### channels.{name}\n\n{_section(f'channels.{name}')}" for name in _channels()]
    return "\n\n".join(parts) + "\n"


def _channels() -> list[str]:
    return [key.key for key in describe("channels")[1] if "." not in key.key]


def traders_page() -> str:
    """Keys of each kind of trader."""
    parts = [
        "# Kinds of traders",
        "What may stand under `traders:` of a scenario, by kind; `abm schema traders.KIND` prints the same. Why each trades: "
        "[who is in the market](../concepts/traders.md).",
    ]
    for kind, cls in kinds().items():
        parts += [f"## {kind}", _escaped(inspect.getdoc(cls) or ""), _section(f"traders.{kind}", titled=False)]
    return "\n\n".join(parts) + "\n"


def _is_section(name: str) -> bool:
    return len(describe(name)[1]) > 1


def _section(section: str, titled: bool = True) -> str:
    title, keys = describe(section)
    about = f"{_escaped(title.partition(': ')[2])}\n\n" if titled else ""
    return about + table(("key", "default", "meaning"), map(_row, keys))


def _row(key: Key) -> tuple[str, str, str]:
    return f"`{key.key}`", key.default, key.about


def table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; what would break a cell is escaped."""
    lines = [titles, tuple("---" for _ in titles)]
    lines += [(row[0], *map(_cell, row[1:])) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    text = _escaped(" ".join(text.split())).replace("|", "\\|")
    return re.sub(r"(?<=[a-z]),(?=[a-z])", ",<wbr>", text)  # a list of names may be cut between two of them


def _escaped(text: str) -> str:
    """Text that Markdown takes for nothing else: `<x>` is no tag, `*` and `_` no emphasis."""
    return re.sub(r"([*_\[\]])", r"\\\1", html.escape(text, quote=False))
