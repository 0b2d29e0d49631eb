"""The folder a run leaves: tables, summary, figures, manifest. It appears whole or not at all."""

import errno
import os
import platform
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from abm.record import Result, read_result, whole_folder, write_json
from abm.scenario import ScenarioError

_LIBRARIES = (
    "exit-cascade",
    "mesa",
    "numpy",
    "numba",
    "pandas",
    "pyarrow",
    "pydantic",
    "scipy",
    "networkx",
    "dask",
    "salib",
    "seaborn",
    "matplotlib",
)


def default_place(name: str, seed: int, now: datetime) -> Path:
    """`runs/<scenario>-seed<seed>-<UTC time>`, with a number behind it where that is taken."""
    stem = f"{name}-seed{seed}-{now:%Y%m%dT%H%M%SZ}"
    place, number = Path("runs") / stem, 2
    while place.exists():
        place, number = Path("runs") / f"{stem}-{number}", number + 1
    return place


def check(place: Path) -> None:
    """Find out now, before a long run, whether a run folder can appear there.

    Raises:
        OSError: It cannot.
    """
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise FileExistsError(f"{place}: is there already; choose another --out or remove it")
    made = []
    parent = place.absolute().parent
    while not parent.exists():
        made.append(parent)
        parent = parent.parent
    if not parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(parent))
    place.absolute().parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=place.absolute().parent) as probe:
            probe.write(b"x")
    finally:
        for folder in made:  # nothing stays behind if the run does not come to an end
            with suppress(OSError):  # another run has begun to use it
                folder.rmdir()


def read(place: Path) -> Result:
    """The result in a run folder.

    Raises:
        ScenarioError: There is none that can be read.
    """
    try:
        return read_result(place)
    except (FileNotFoundError, ValueError) as error:
        raise ScenarioError(str(error)) from None


def versions() -> dict[str, str]:
    """Python and the libraries that a run depends on."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def save(result: Result, place: Path, started: datetime) -> list[Path]:
    """Write a run folder; the manifest comes last. Returns the paths of the figures.

    Raises:
        OSError: It cannot be written; nothing is left then.
    """
    try:
        return _save(result, place, started)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(place)) from error


def _save(result: Result, place: Path, started: datetime) -> list[Path]:
    from analysis.figures import draw

    with whole_folder(place) as folder:
        result.write(folder)
        figures = draw(result, folder)
        manifest: dict[str, Any] = {
            **result.manifest(),
            "status": "complete" if result.audit.passed else "audit failed",
            "command": ["abm", *sys.argv[1:]],
            "started": started.isoformat(timespec="seconds"),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
            "files": [*sorted(path.name for path in folder.iterdir()), "manifest.json"],
        }
        write_json(folder / "manifest.json", manifest)
    return [place / figure.name for figure in figures]
