"""Lessons: notebooks kept as Markdown text in `docs/lessons`, so that a change reads well.

`python -m tools.site.lessons` writes notebooks for a student; `python -m tools.site.lessons --execute [LESSON...]` plays them and keeps what they
printed and drew, for the site. A cell tagged `solution` is folded in both.
"""

import argparse
import base64
import re
import textwrap
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

_ROOT = Path(__file__).parents[2]
_TEXTS = _ROOT / "docs" / "lessons"
_NOTEBOOKS = Path("runs") / "lessons"
_TIMEOUT = 600  # seconds for a cell: only what hangs takes so long

Notebook = nbformat.NotebookNode


def lessons() -> list[str]:
    """Names of all lessons, in order."""
    return sorted(path.stem for path in _TEXTS.glob("[0-9]*.md"))


def read(name: str) -> Notebook:
    """A lesson as a notebook without outputs."""
    notebook = jupytext.read(_TEXTS / f"{name}.md", fmt="md")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        if is_solution(cell):
            cell.metadata["jupyter"] = {"source_hidden": True}
    return notebook


def is_solution(cell: Any) -> bool:
    """Whether a cell solves an exercise."""
    return "solution" in cell.metadata.get("tags", ())


def write(name: str) -> Path:
    """Write a lesson as a notebook to work in; one that is there already stays as it is."""
    place = _NOTEBOOKS / f"{name}.ipynb"
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        nbformat.write(read(name), place)
    return place


def execute(name: str) -> Path:
    """Play a lesson from beginning to end, and keep it with what it printed and drew.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    notebook = read(name)
    NotebookClient(notebook, timeout=_TIMEOUT, resources={"metadata": {"path": str(_ROOT)}}).execute()
    place = _ROOT / _NOTEBOOKS / "executed" / f"{name}.ipynb"
    place.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, place)
    return place


def executed(name: str) -> Notebook:
    """A lesson with what its code printed and drew, if that was executed as it is now; else without."""
    notebook, place = read(name), _ROOT / _NOTEBOOKS / "executed" / f"{name}.ipynb"
    if place.is_file():
        now, then = (
            [cell for cell in book.cells if cell.cell_type == "code"]
            for book in (notebook, nbformat.read(place, as_version=4))
        )
        if [cell.source for cell in now] == [cell.source for cell in then]:
            for cell, played in zip(now, then, strict=True):
                cell["outputs"] = played.outputs
    return notebook


# ------------------------------------------------------------------------------------------------------------ as a page


def page(name: str) -> tuple[str, dict[str, bytes]]:
    """A lesson as Markdown, and its pictures by file name."""
    pictures: dict[str, bytes] = {}
    parts = []
    for cell in executed(name).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        block = "\n\n".join([f"```python\n{cell.source}\n```", *_outputs(cell, name, pictures)])
        parts.append(f'??? success "Solution"\n{textwrap.indent(block, "    ")}' if is_solution(cell) else block)
    return "\n\n".join(parts) + "\n", pictures


def _outputs(cell: Any, name: str, pictures: dict[str, bytes]) -> list[str]:
    """What a cell printed and drew; not what the libraries of one machine warned of."""
    outputs = [output for output in cell.get("outputs", ()) if output.get("name") != "stderr"]
    drawn = any("image/png" in output.get("data", {}) for output in outputs)
    shown = []
    if said := "".join(output.get("text", "") for output in outputs):
        shown.append(f"```{{ .text .printed }}\n{said.rstrip()}\n```")
    for output in outputs:
        data = output.get("data", {})
        if "image/png" in data:
            file = f"{name}-{len(pictures) + 1}.png"
            pictures[file] = base64.b64decode(data["image/png"])
            shown.append(f"![what the cell above draws]({file}){{ .drawn }}")
        elif "text/html" in data:
            table = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
            shown.append(f'<div class="printed">{" ".join(table.split())}</div>')
        elif (text := data.get("text/plain")) and not drawn:  # beside a picture that is only the name of a legend
            shown.append(f"```{{ .text .printed }}\n{text.rstrip()}\n```")
    return shown


# ---------------------------------------------------------------------------------------------------------- the command


def main() -> None:
    """Write or execute lessons."""
    parser = argparse.ArgumentParser(prog="lessons", description="Lessons as notebooks.")
    parser.add_argument("names", nargs="*", choices=[[], *lessons()], metavar="LESSON", help="all where none is named")
    parser.add_argument("--execute", action="store_true", help="play them, and keep what they print for the site")
    chosen = parser.parse_args()
    for name in chosen.names or lessons():
        print(execute(name) if chosen.execute else write(name))


if __name__ == "__main__":
    main()
