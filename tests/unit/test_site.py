"""The documentation: it builds without a warning and asks nothing of the network, its links lead somewhere, and what it says is to be run, runs."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

import abm
from abm.scenario import load
from tools.site import lessons, reference

ROOT = Path(__file__).parents[2]
TEXTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_YAML = re.compile(r"^```yaml\n# (\S+\.yaml)(.*?)^```", re.MULTILINE | re.DOTALL)
_HREF = re.compile(r"<a\b[^>]*\bhref=[\"']?([^\"'\s>]+)")
_LOADED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(place)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    return place


def test_the_site_builds_without_a_warning_and_has_every_page(site: Path) -> None:
    for page in ("index", "tutorials/first-steps", "lessons/1-the-order-book", "model/odd", "reference/command"):
        assert (site / f"{page}.html").is_file()
    kinds = (site / "reference/traders.html").read_text("utf-8")
    assert 'id="market_makers"' in kinds and "depth_exponent" in kinds


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    loaded = {str(page.relative_to(site)): _LOADED.findall(page.read_text("utf-8")) for page in pages}
    assert not {page: found for page, found in loaded.items() if found}
    assert not any("fonts.googleapis" in sheet.read_text("utf-8") for sheet in site.rglob("*.css"))


def test_links_of_the_pages_lead_to_files_of_the_site(site: Path) -> None:
    dead = []
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # its links are those of a server
            continue
        for link in _HREF.findall(page.read_text("utf-8")):
            where = urlsplit(link)
            if not where.scheme and where.path and not (page.parent / unquote(where.path)).exists():
                dead.append(f"{page.relative_to(site)}: {link}")
    assert not dead


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(text: Path) -> None:
    """Links among the files themselves, as one reads them in the repository; pages of the reference are made from the code."""
    made = {ROOT / "docs" / page for page in reference.PAGES}
    for link in _LINK.findall(_FENCED.sub("", text.read_text("utf-8"))):
        where = urlsplit(link)
        if where.scheme or not where.path:
            continue
        target = (text.parent / unquote(where.path)).resolve()
        assert target.exists() or target in made, f"{text.name}: {link}"


@pytest.mark.parametrize(
    ("name", "text"),
    [found for path in TEXTS for found in _YAML.findall(path.read_text("utf-8"))],
    ids=lambda value: value if value.endswith(".yaml") else "",
)
def test_scenarios_of_the_how_tos_run(name: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(f"# {text}", "utf-8")
    market = abm.Market(load(file))
    market.run_for("1min")
    assert market.result().audit.passed
    assert market.result().summary["trades"] > 0


def test_examples_of_the_readme_run() -> None:
    examples = _PYTHON.findall((ROOT / "README.md").read_text("utf-8"))
    assert len(examples) == 2
    told: dict[str, Any] = {}
    for example in examples:
        exec(example, told)
    assert told["book"].last == 100.5
    assert told["mine"].equity > 9_000


def test_the_how_to_for_a_trader_holds_as_it_is_written(tmp_path: Path) -> None:
    """Its files are written as it says, and what is to be run runs; the contract is only collected, as every kind here passes it elsewhere."""
    blocks = _PYTHON.findall((ROOT / "docs/how-to/new-trader.md").read_text("utf-8"))
    for number, block in enumerate(blocks):
        named = re.match(r"# (\S+\.py)\n", block)
        (tmp_path / (named[1] if named else f"run_{number}.py")).write_text(block, "utf-8")
    paths = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path)))}
    collect = ["-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "test_dip_buyers.py"]
    for arguments in (["run_0.py"], ["run_2.py"], collect):
        done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, env=paths)
        assert done.returncode == 0, done.stderr + done.stdout
    assert "test_it_survives_a_halt" in done.stdout


def test_the_reference_of_commands_has_every_command_and_option() -> None:
    text = reference.command_page()
    for said in (
        "## abm run",
        "## abm bench",
        "### abm bench traders",
        "`--check-determinism`",
        "### abm replay lobster",
    ):
        assert said in text


def test_the_reference_of_scenarios_escapes_what_markdown_would_take_for_a_sign() -> None:
    assert reference.table(("key",), [("`a`", "x | y", "<b> *c* [d]")]).splitlines()[-1] == (
        r"| `a` | x \| y | &lt;b&gt; \*c\* \[d\] |"
    )


def test_a_list_of_names_may_be_cut_in_a_cell_and_a_number_may_not() -> None:
    assert (
        reference.table(("key",), [("`a`", "spread,depth", "9,223")]).splitlines()[-1]
        == "| `a` | spread,<wbr>depth | 9,223 |"
    )


def test_the_keys_of_each_channel_stand_below_channels() -> None:
    text = reference.scenario_page()
    below = text.partition("\n## channels\n")[2].partition("\n## ")[0]
    assert "### channels.sentiment" in below
    assert text.count("### channels.") == below.count("### channels.")


def test_every_lesson_begins_with_a_question_and_ends_with_what_was_found() -> None:
    for name in lessons.lessons():
        text = (ROOT / "docs" / "lessons" / f"{name}.md").read_text("utf-8")
        assert re.match(rf"# {name[0]}\. .+\n\n\*\*.+\?\*\*\n", text), name
        assert "## Exercises" in text and "## What we found" in text, name
        assert any(map(lessons.is_solution, lessons.read(name).cells)), name


def test_a_solution_is_folded_in_the_notebook_and_on_the_page() -> None:
    solved = next(cell for cell in lessons.read("1-the-order-book").cells if lessons.is_solution(cell))
    assert solved.metadata["jupyter"] == {"source_hidden": True}
    page, _ = lessons.page("1-the-order-book")
    assert '??? success "Solution"\n    ```python\n    book = OrderBook' in page


def test_a_students_notebook_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = lessons.write("1-the-order-book")
    place.write_text("mine", "utf-8")
    assert lessons.write("1-the-order-book").read_text("utf-8") == "mine"


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r"[\w/.-]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8")))
    assert {str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md")} <= named
    assert yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["theme"]["font"] is False
