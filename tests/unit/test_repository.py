"""The files for who comes to the repository: what they say is valid, agrees with each other, and leads somewhere."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import abm

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", ".github/PULL_REQUEST_TEMPLATE.md"]


def read(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(content, dict), path
    return content


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def test_the_workflow_runs_the_same_checks_on_each_system_and_each_version_that_is_promised() -> None:
    workflow = read(GITHUB / "workflows" / "checks.yml")
    assert {"push", "pull_request"} <= set(workflow["on"])
    assert workflow["permissions"] == {"contents": "read"}
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest"]
    promised = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", text) for text in PROJECT["classifiers"]]
    assert matrix["python"] == [found[1] for found in promised if found]
    run = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert (
        run
        == re.findall(r"^make .*", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE)
        == ["make test", "make demo"]
    )
    assert {line.split()[1] for line in run} <= targets()


@pytest.mark.parametrize("path", sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_the_forms_of_issues_are_such_forms(path: Path) -> None:
    form = read(path)
    if path.stem == "config":
        assert [*form] == ["blank_issues_enabled"]
        return
    assert {"name", "description", "body"} <= set(form)
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    for field in form["body"]:
        assert field["type"] in ("textarea", "input", "checkboxes", "dropdown")
        assert field["attributes"]["label"]


def test_who_cites_cites_this_version_under_its_licence() -> None:
    cited = read(ROOT / "CITATION.cff")
    assert (cited["version"], cited["license"]) == (abm.__version__, PROJECT["license"])
    assert [author["name"] for author in cited["authors"]] == [author["name"] for author in PROJECT["authors"]]
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_links_and_commands_of_a_page_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or ((ROOT / page).parent / link).exists(), link
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets()
