"""Where results are kept: in a SQLite file, or in a PostgreSQL database that several machines share."""

import contextlib
import re
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from abm.scenario import ScenarioError
from experiments.progress import say

STAYS = "what was kept before stays, and the same command goes on from there"
_DRIVER = ("psycopg", None)  # None: it is there, and misses a library of its own
_SQLITE = {
    sqlite3.SQLITE_NOTADB: "it is not a store of runs; name another, or remove it",
    sqlite3.SQLITE_CORRUPT: "it is damaged; remove it, and its runs are played again",
    sqlite3.SQLITE_FULL: f"free some space; {STAYS}",
    sqlite3.SQLITE_IOERR: f"see to the disk; {STAYS}",
    sqlite3.SQLITE_BUSY: "another command is writing to it; wait for it, or name another store",
}


def is_url(place: Path | str) -> bool:
    """Whether a place is the URL of a database, and not a file."""
    return "://" in str(place)


def shown(place: Path | str) -> str:
    """A path or URL as it may be printed: without a password."""
    hidden = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", str(place))
    return re.sub(r"(password=)[^&]*", r"\1***", hidden)


def url_of(place: Path | str) -> sqlalchemy.URL:
    """What SQLAlchemy calls a place; the folder of a file is made.

    Args:
        place: Path of a SQLite file, or `postgresql://USER@HOST/DATABASE`.

    Raises:
        ScenarioError: It is another database, or no URL.
    """
    if not is_url(place):
        path = Path(place).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        return sqlalchemy.URL.create("sqlite", database=str(path))
    text = str(place)
    scheme = text.partition("://")[0]
    if scheme not in ("postgresql", "postgresql+psycopg"):
        raise ScenarioError(f"store: {scheme} is no database for it; give a file, or postgresql://USER@HOST/DATABASE")
    try:
        url = sqlalchemy.make_url(text).set(drivername="postgresql+psycopg")
    except (SQLAlchemyError, ValueError):  # their text may tell the password
        url = None
    if url is None or "@" in (url.host or ""):  # half a password would be taken for the host, and told
        raise ScenarioError(
            f"store: {shown(text)}: is no URL; write postgresql://USER@HOST:PORT/DATABASE, @ in a password as %40"
        )
    return url


def options(url: sqlalchemy.URL) -> dict[str, Any]:
    """How to connect, for `create_engine`. One server has one clock: that of UTC; and it finds out soon who is gone."""
    if url.get_backend_name() == "sqlite":
        return {}

    def begin(connection: Any, _: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET TIME ZONE 'UTC'")
            for name, seconds in (("idle", 30), ("interval", 10), ("count", 3)):
                cursor.execute(f"SET tcp_keepalives_{name} = {seconds}")
        connection.commit()

    return {"pool_pre_ping": True, "pool_events": [(begin, "connect")], "connect_args": {"connect_timeout": 10}}


@contextlib.contextmanager
def alone(engine: sqlalchemy.Engine, what: str, waiting: str = "") -> Iterator[None]:
    """Hold a lock of a shared database, so that what stands here is done by one command after the other.

    It is free again when its holder dies. A file is one command's, and has none.

    Args:
        engine: Of the database.
        what: Name of the lock.
        waiting: Said where another holds it.
    """
    if engine.dialect.name == "sqlite":
        yield
        return
    key = zlib.crc32(f"abm {what}".encode())
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as base:
        if not base.execute(sqlalchemy.text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar():
            if waiting:
                say(waiting)
            base.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": key})
        try:
            yield
        finally:
            with contextlib.suppress(SQLAlchemyError):  # a connection that is gone holds nothing
                base.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:key)"), {"key": key})


@contextlib.contextmanager
def told(where: str) -> Iterator[None]:
    """Say in one line what a database met.

    Args:
        where: Its place, as `shown`.

    Raises:
        ScenarioError: It met something.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, ImportError) as error:
        if isinstance(error, ImportError) and error.name not in _DRIVER:
            raise
        cause = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None) or error.__cause__ or error
        line = " ".join(str(cause).split()) or type(cause).__name__
        if isinstance(cause, ImportError):
            fix = "install the driver (the extra postgresql): pip install 'psycopg[binary]'"
        elif isinstance(cause, sqlite3.Error):
            fix = _SQLITE.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF, "name a file that can be written")
        else:
            fix = f"see to the database; {STAYS}"
        raise ScenarioError(f"{where}: {line}; {fix}") from None
