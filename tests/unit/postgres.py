"""A PostgreSQL server for tests, in a folder of its own."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PASSWORD = "s3cr@t/word"
QUOTED = "s3cr%40t%2Fword"


def why_not() -> str:
    """Why there can be no server here; empty where there can."""
    if not _program("initdb"):
        return "PostgreSQL is not installed"
    if os.name != "posix":
        return "a server is started as on POSIX"
    if os.getuid() == 0 and not _user():
        return "PostgreSQL does not run as root, and there is no user postgres"
    return ""


class Server:
    """A server on a port of its own, whose user abm has a database abm."""

    def __init__(self, folder: Path) -> None:
        self._data, self._folder = folder / "data", folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        password = folder / "password"
        password.write_text(PASSWORD)
        if os.getuid() == 0:
            shutil.chown(folder, _user())
            shutil.chown(password, _user())
        self._run("initdb", "-U", "abm", "-A", "scram-sha-256", "--pwfile", str(password), "--no-sync", "-E", "UTF8")
        self.start()
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as base:
            base.execute("CREATE DATABASE abm")

    def url(self, database: str = "abm", password: str = QUOTED) -> str:
        return f"postgresql://abm:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._folder} -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-o", options, "-l", str(self._folder / "log"))

    def stop(self) -> None:
        """As if it had lost its power."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate")

    def _run(self, program: str, *arguments: str) -> None:
        command = [_program(program), "-D", str(self._data), *arguments]
        user = {"user": _user(), "group": _user(), "extra_groups": []} if os.getuid() == 0 else {}
        subprocess.run(command, cwd=self._folder, stdout=subprocess.DEVNULL, check=True, **user)  # type: ignore[call-overload]


@contextmanager
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="abm-"))  # one of pytest's is closed to another user
    try:
        started = Server(folder)
        try:
            yield started
        finally:
            started.stop()
    finally:
        shutil.rmtree(folder)


def _program(name: str) -> str:
    places = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(places)) or ""


def _user() -> str:
    import pwd

    return "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else ""
