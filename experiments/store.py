"""What runs came to, kept in a file, so that the same command goes on where it stopped."""

import contextlib
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abm.scenario import ScenarioError

STAYS = "what was kept before stays, and the same command goes on from there"


@dataclass(frozen=True)
class Outcome:
    """What one run came to. Equal wherever it was played: `seconds` does not count."""

    scenario: str
    """Hash of the scenario: of everything the run depends on, the seed included."""
    seed: int
    measures: Mapping[str, float]
    """What was measured; empty where the run failed."""
    seconds: float = field(compare=False)
    error: str = ""
    """What went wrong, in one line; empty where nothing did. An audit that fails is an error."""
    stage: str = ""
    """Where it went wrong: `build`, `run`, `audit` or `measure` the run, or the `worker` that played it; empty where it did not."""
    traceback: str = field(default="", compare=False)
    """Where in the code it went wrong; empty where nobody can say."""


_OURS, _LAYOUT = 0x61626D31, 2
_TABLE = """CREATE TABLE IF NOT EXISTS runs (
    scenario TEXT, measure TEXT, version TEXT, name TEXT, seed INTEGER, measures TEXT, seconds REAL, error TEXT,
    stage TEXT, traceback TEXT,
    PRIMARY KEY (scenario, measure, version))"""


class Store:
    """The outcomes of one measure in a SQLite file; in memory, for as long as this lives, where no place is given.

    Attributes:
        where: The place as it is told to people; empty in memory.
    """

    def __init__(self, place: Path | str | None, measure: str) -> None:
        self.where, self._measure = str(place or ""), measure
        path = self._path = Path(place) if place else None
        self._base: sqlite3.Connection | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._told():
            self._base = sqlite3.connect(path or ":memory:", timeout=60.0, isolation_level=None)
        try:
            self._check()
        except ScenarioError:
            self.close()
            raise

    def close(self) -> None:
        if self._base is not None:
            self._base.close()

    def get(self, scenario: str, version: str) -> Outcome | None:
        """What is kept of a run, by its hash and the version of the code; None if nothing is."""
        row = self._asked(
            "SELECT seed, measures, seconds, error, stage, traceback FROM runs WHERE scenario = ? AND measure = ? AND version = ?",
            scenario,
            self._measure,
            version,
        ).fetchone()
        return row and Outcome(scenario, row[0], _numbers(row[1]), *row[2:])

    def put(self, outcome: Outcome, name: str, version: str) -> None:
        """Keep an outcome, in place of an earlier one, with the name of its scenario for who reads the file."""
        self._asked(
            "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            outcome.scenario,
            self._measure,
            version,
            name,
            outcome.seed,
            json.dumps(dict(outcome.measures)),
            outcome.seconds,
            outcome.error,
            outcome.stage,
            outcome.traceback,
        )

    def _asked(self, command: str, *values: Any) -> sqlite3.Cursor:
        assert self._base is not None
        with self._told():
            return self._base.execute(command, values)

    def _check(self) -> None:
        """Refuse what is not ours; make the table in a file that is new."""
        ours, layout = (self._asked(f"PRAGMA {what}").fetchone()[0] for what in ("application_id", "user_version"))
        if not ours and not self._asked("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for command in (
                "BEGIN IMMEDIATE",
                f"PRAGMA application_id = {_OURS}",
                f"PRAGMA user_version = {_LAYOUT}",
                _TABLE,
                "COMMIT",
            ):
                self._asked(command)
        elif ours != _OURS:
            raise ScenarioError(f"{self.where}: is not a store of runs; name another, or remove it")
        elif layout != _LAYOUT:
            raise ScenarioError(
                f"{self.where}: has layout {layout} and not {_LAYOUT}; name another store, or remove it to begin anew"
            )
        pages, size = (self._asked(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
        cut = self._path is not None and self._path.stat().st_size < pages * size
        if cut or self._asked("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
            raise ScenarioError(f"{self.where}: is damaged; remove it, and its runs are played again")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Say in one line what SQLite met."""
        try:
            yield
        except sqlite3.Error as error:
            fix = {
                sqlite3.SQLITE_NOTADB: "it is not a store of runs; name another, or remove it",
                sqlite3.SQLITE_CORRUPT: "it is damaged; remove it, and its runs are played again",
                sqlite3.SQLITE_FULL: f"free some space; {STAYS}",
                sqlite3.SQLITE_IOERR: f"see to the disk; {STAYS}",
                sqlite3.SQLITE_BUSY: "another command is writing to it; wait for it, or name another store",
            }.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "name a file that can be written")
            raise ScenarioError(f"{self.where}: {error}; {fix}") from None


def _numbers(text: str) -> dict[str, float]:
    return {name: math.nan if value != value else value for name, value in json.loads(text).items()}
