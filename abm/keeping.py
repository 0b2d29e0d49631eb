"""A part of a scenario: some of its instruments, and whoever trades no others (key `keep`)."""

from collections.abc import Collection, Mapping
from typing import Any

from abm.agents import kinds


def kept(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A scenario's mapping with the instruments named under `keep` alone.

    Who trades another one is left out; market makers keep the books that are left, as each is a business of its own. What is said of the
    others goes: values, news, edges of channels, rules.

    Raises:
        ValueError: An instrument to be kept is not there; the text is one line.
    """
    content = {key: value for key, value in raw.items() if key != "keep"}
    wanted = raw.get("keep")
    if not wanted:
        return content
    if not (isinstance(wanted, list | tuple) and all(isinstance(name, str) for name in wanted)):
        raise ValueError(f"keep: {wanted!r} is not a list of instruments; write [btc-spot, btc-perp]")
    everything = content.get("instruments", {})
    missing = [name for name in wanted if name not in everything]
    if missing:
        raise ValueError(f"keep: {missing[0]!r} is not an instrument of this scenario; it has {', '.join(everything)}")
    gone = set(everything) - set(wanted)
    traders = {name: _trader(name, body, gone) for name, body in content.get("traders", {}).items()}
    follows = content.get("channels", {}).get("correlation", {}).get("follows", {})
    led = {name for name, leaders in follows.items() if not set(leaders) <= gone}
    for name, body in traders.items():
        if body and body.get("kind", name) == "correlation_traders" and body.get("instrument") not in led:
            traders[name] = None
    left_out = gone | {name for name, body in traders.items() if body is None}
    for section in ("instruments", "fundamentals", "day_before", "news", "channels"):
        content[section] = _pruned(content.get(section, {}), left_out)
    for section in ("inputs", "fitted"):
        said = content.get(section, {})
        content[section] = {key: source for key, source in said.items() if not gone & set(str(key).split("."))}
    return content | {"traders": traders}


def _trader(name: str, body: Any, gone: Collection[str]) -> Any:
    """A trader's mapping, or None where it trades what is gone."""
    if not isinstance(body, Mapping):
        return body
    if "books" in body:
        books = {book: terms for book, terms in body["books"].items() if book not in gone}
        return {**body, "books": books} if books else None
    kind = kinds().get(str(body.get("kind") or name))
    usual = kind.config_class.model_fields["instrument"].default if kind else ""
    return None if _mentions([usual if "instrument" not in body else "", body], gone) else dict(body)


def _mentions(value: Any, names: Collection[str]) -> bool:
    if isinstance(value, Mapping):
        return _mentions([*value.keys(), *value.values()], names)
    if isinstance(value, list | tuple):
        return any(_mentions(each, names) for each in value)
    return isinstance(value, str) and value in names


def _pruned(value: Any, names: Collection[str]) -> Any:
    """A mapping or list without what bears or concerns one of the names, and without mappings in lists that nothing is left of."""
    if isinstance(value, Mapping):
        return {key: _pruned(each, names) for key, each in value.items() if key not in names}
    if isinstance(value, list | tuple):
        here = [each for each in value if not (isinstance(each, Mapping) and each.get("instrument") in names)]
        pruned = [_pruned(each, names) for each in here if not (isinstance(each, str) and each in names)]
        return [each for each in pruned if not (isinstance(each, Mapping) and each.get("moves") == {})]
    return value
