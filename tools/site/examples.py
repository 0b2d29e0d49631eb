"""Examples in docstrings are code: mkdocstrings is told so by a fence around them."""

import re
import textwrap
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^Example:\n((?:    .*\n?|[ ]*\n)+)", re.MULTILINE)


class Examples(griffe.Extension):
    """Puts what follows `Example:` into a block of code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Mend the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(found: re.Match[str]) -> str:
    code = textwrap.dedent(found[1]).strip("\n")
    return f"**Example**\n\n```{'pycon' if '>>>' in code else 'python'}\n{code}\n```\n"
