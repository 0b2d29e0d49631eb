"""What a sweep has found: one row a run, its points, what failed, and the tables that runs left.

A folder holds `runs.parquet`, `manifest.json` (last: a folder that has one is whole), and in `tables/<table>/` one file for each run of which
tables were kept, named after the hash of its scenario.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd

from abm.record import write_json
from abm.scenario import ScenarioError, meant
from analysis.compare import INTERVAL

FORMAT = 1
"""Version of the layout of a folder."""
RUNS, MANIFEST, FAILURES, TABLES = "runs.parquet", "manifest.json", "failures.csv", "tables"
FIXED = ("point", "replication", "seed", "scenario_hash", "seconds", "stage", "error", "traceback")
"""Columns of each table of runs, beside the varied keys and the measures."""


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep."""

    table: pd.DataFrame
    """One row a run, by point and replication: point, replication, seed, scenario_hash, the varied keys under their dotted names, the measures,
    seconds (wall time), and of runs that failed stage (build, run, audit, measure, worker), error (one line) and traceback; else these are empty.
    """
    manifest: dict[str, Any]
    """What was asked for: spec, version of the code, design (with the problem for SALib), keys, measures with their units, counts."""
    folder: Path | None = None

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """The sweep in a folder.

        Raises:
            ScenarioError: There is none, or none that has come to an end, or one of another layout.
        """
        place = Path(folder)
        try:
            manifest = json.loads((place / MANIFEST).read_text("utf-8"))
            if manifest.get("format") != FORMAT:
                raise ScenarioError(
                    f"{place}: has format {manifest.get('format')} and not {FORMAT}; run the sweep again"
                )
            return cls(pd.read_parquet(place / RUNS), manifest, place)
        except FileNotFoundError:
            raise ScenarioError(
                f"{place}: no sweep that has come to an end ({MANIFEST}, {RUNS}); the command that began it goes on"
            ) from None
        except (OSError, ValueError) as error:
            if isinstance(error, ScenarioError):
                raise
            raise ScenarioError(
                f"{place}: cannot be read ({' '.join(str(error).split())}); run the sweep again"
            ) from None

    @property
    def keys(self) -> list[str]:
        """What was varied."""
        return list(self.manifest["keys"])

    @property
    def measures(self) -> list[str]:
        """What was measured."""
        return list(self.manifest["measures"])

    @property
    def failures(self) -> pd.DataFrame:
        """The runs that failed."""
        return self.table[self.table["error"] != ""]

    def points(self, measures: Sequence[str] = (), interval: tuple[float, float] = INTERVAL) -> pd.DataFrame:
        """What each point comes to over its replications: one row for each point and measure.

        Args:
            measures: Which; all where none is named.
            interval: Quantiles of the runs, for `low` and `high`.

        Returns:
            point, the varied keys, measure, median, low, high, runs (that went well and have a number), failed.

        Raises:
            ScenarioError: There is no such measure.
        """
        for name in measures:
            if name not in self.measures:
                raise ScenarioError(f"measure {name!r} is not in this sweep{meant(name, self.measures)}")
        by_point = self.table.groupby("point", sort=True)
        about = by_point[self.keys].first() if self.keys else pd.DataFrame(index=by_point.size().index)
        failed = self.table["error"].ne("").groupby(self.table["point"]).sum()
        parts = []
        for name in measures or self.measures:
            low, middle, high = (by_point[name].quantile(q) for q in (interval[0], 0.5, interval[1]))
            part = about.assign(measure=name, median=middle, low=low, high=high, runs=by_point[name].count())
            parts.append(part.assign(failed=failed))
        return pd.concat(parts).sort_index(kind="stable").reset_index()

    def kept(self, table: str) -> pd.DataFrame:
        """A table that runs left, of all of them, with `point` and `replication` in front.

        Raises:
            ScenarioError: The sweep has kept no such table, or it is not there.
        """
        names = self.manifest["tables"]
        if table not in names or self.folder is None:
            raise ScenarioError(f"{table!r} was not kept{meant(table, names)}; name it under keep in the specification")
        parts = []
        for run in self.table[self.table["error"] == ""].itertuples():
            try:
                part = pd.read_parquet(table_file(self.folder, table, str(run.scenario_hash)))
            except OSError as error:
                raise ScenarioError(
                    f"{error.filename}: {error.strerror}; the same command plays that run again"
                ) from None
            part.insert(0, "point", run.point)
            part.insert(1, "replication", run.replication)
            parts.append(part)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def write(self, folder: Path) -> None:
        """Write the table and the manifest, in place of earlier ones; what failed is also in a file of its own.

        Raises:
            OSError: It cannot be written. There is then no manifest, and nothing that could be taken for a whole sweep.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        with whole_file(folder / RUNS) as part:
            self.table.to_parquet(part, index=False)
        (folder / FAILURES).unlink(missing_ok=True)
        if len(self.failures):
            self.failures.to_csv(folder / FAILURES, index=False)
        with whole_file(folder / MANIFEST) as part:
            write_json(part, {"format": FORMAT, **self.manifest})


def table_file(folder: Path, table: str, scenario: str) -> Path:
    """Where a table of a run is kept.

    Args:
        folder: Of the sweep.
        table: Such as `bars`.
        scenario: Hash of the run's scenario.
    """
    return folder / TABLES / table / f"{scenario}.parquet"


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file that appears under its name only once it has been written."""
    part = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
