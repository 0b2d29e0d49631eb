"""What runs came to, kept in a file or a database, so that the same command goes on where it stopped."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy.dialects import postgresql, sqlite

from abm.scenario import ScenarioError
from experiments.database import alone, is_url, options, shown, told, url_of


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
_COMMENT = f"abm runs, layout {_LAYOUT}"
_RUNS = sqlalchemy.Table(
    "runs",
    sqlalchemy.MetaData(),
    *(sqlalchemy.Column(name, sqlalchemy.Text, primary_key=True) for name in ("scenario", "measure", "version")),
    sqlalchemy.Column("name", sqlalchemy.Text),
    sqlalchemy.Column("seed", sqlalchemy.BigInteger),
    sqlalchemy.Column("measures", sqlalchemy.Text),
    sqlalchemy.Column("seconds", sqlalchemy.Double),
    *(sqlalchemy.Column(name, sqlalchemy.Text) for name in ("error", "stage", "traceback")),
    comment=_COMMENT,
)
_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Store:
    """The outcomes of one measure, in a SQLite file or a PostgreSQL database; where no place is given in memory, as long as this lives.

    Args:
        place: Path, or URL.
        measure: Name.

    Attributes:
        where: The place as it may be told to people; empty in memory.

    Raises:
        ScenarioError: It is no store, or cannot be reached.
    """

    def __init__(self, place: Path | str | None, measure: str) -> None:
        self.where, self._measure = shown(place or ""), measure
        url = url_of(place) if place else sqlalchemy.URL.create("sqlite")
        self._path = Path(place) if place and not is_url(place) else None
        wait = {"connect_args": {"timeout": 60.0}} if self._path else {}
        with told(self.where):
            self._engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT", **options(url) | wait)
        try:
            with told(self.where), alone(self._engine, "runs"):
                self._check_file() if url.get_backend_name() == "sqlite" else self._check_database()
        except ScenarioError:
            self.close()
            raise

    def close(self) -> None:
        self._engine.dispose()

    def get(self, scenario: str, version: str) -> Outcome | None:
        """What is kept of a run, by its hash and the version of the code; None if nothing is."""
        runs = _RUNS.c
        kept = (runs.seed, runs.measures, runs.seconds, runs.error, runs.stage, runs.traceback)
        asked = sqlalchemy.select(*kept).where(
            runs.scenario == scenario, runs.measure == self._measure, runs.version == version
        )
        with told(self.where), self._engine.connect() as base:
            row = base.execute(asked).fetchone()
        return Outcome(scenario, row[0], _numbers(row[1]), *row[2:]) if row else None

    def put(self, outcome: Outcome, name: str, version: str) -> None:
        """Keep an outcome, with the name of its scenario for who reads the table. What succeeded stays, whoever fails at it later."""
        row = {
            "scenario": outcome.scenario,
            "measure": self._measure,
            "version": version,
            "name": name,
            "seed": outcome.seed,
            "measures": json.dumps(dict(outcome.measures)),
            "seconds": outcome.seconds,
            "error": _text(outcome.error),
            "stage": outcome.stage,
            "traceback": _text(outcome.traceback),
        }
        insert = _INSERT[self._engine.dialect.name](_RUNS).values(row)
        better = insert.on_conflict_do_update(
            index_elements=list(_RUNS.primary_key),
            set_=row,
            where=(_RUNS.c.error != "") | (insert.excluded.error == ""),
        )
        with told(self.where), self._engine.connect() as base:
            base.execute(better)

    def _check_database(self) -> None:
        """Make the table where it is not there; refuse one that is not ours."""
        there = sqlalchemy.inspect(self._engine)
        if not there.has_table(_RUNS.name):
            _RUNS.create(self._engine)
            return
        comment = there.get_table_comment(_RUNS.name)["text"] or ""
        if not comment.startswith(_COMMENT.rstrip("0123456789")):
            raise ScenarioError(f"{self.where}: has a table runs that is no store of runs; name another database")
        if comment != _COMMENT:
            self._refuse_layout(comment.split()[-1])

    def _check_file(self) -> None:
        """Refuse what is not ours; make the table in a file that is new."""
        with self._engine.connect() as base:

            def asked(command: str) -> Any:
                return base.exec_driver_sql(command).scalar()

            ours, layout = asked("PRAGMA application_id"), asked("PRAGMA user_version")
            if not ours and not asked("SELECT count(*) FROM sqlite_master"):
                base.exec_driver_sql("BEGIN IMMEDIATE")
                base.exec_driver_sql(f"PRAGMA application_id = {_OURS}")
                base.exec_driver_sql(f"PRAGMA user_version = {_LAYOUT}")
                _RUNS.create(base, checkfirst=True)
                base.exec_driver_sql("COMMIT")
            elif ours != _OURS:
                raise ScenarioError(f"{self.where}: is not a store of runs; name another, or remove it")
            elif layout != _LAYOUT:
                self._refuse_layout(layout)
            size = asked("PRAGMA page_count") * asked("PRAGMA page_size")
            cut = self._path is not None and self._path.stat().st_size < size
            if cut or asked("PRAGMA integrity_check(1)") != "ok":
                raise ScenarioError(f"{self.where}: is damaged; remove it, and its runs are played again")

    def _refuse_layout(self, layout: Any) -> None:
        raise ScenarioError(
            f"{self.where}: has layout {layout} and not {_LAYOUT}; name another store, or remove it to begin anew"
        )


def _text(text: str) -> str:
    """What a database can keep of a text."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _numbers(text: str) -> dict[str, float]:
    return {name: math.nan if value != value else value for name, value in json.loads(text).items()}
