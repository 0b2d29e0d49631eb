"""Other packages on the same tape, each in an environment of its own, since their pins clash with ours."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from experiments.bench.tape import Tape

CHECKOUT = Path(__file__).parents[3]
ENVIRONMENTS = CHECKOUT / ".bench-peers"


class Peer(NamedTuple):
    """A package, its version, and the Pythons it runs on (at least, below)."""

    package: str
    version: str
    pythons: tuple[str, str]
    simulator: bool = False  # a whole simulator: it runs agents of its own and no tape

    @property
    def environment(self) -> Path:
        """Folder of its environment."""
        return ENVIRONMENTS / self.package

    @property
    def python(self) -> Path:
        """Its interpreter; there only where it has been installed."""
        return self.environment / "bin" / "python"

    @property
    def program(self) -> Path:
        """What is run there."""
        return Path(__file__).with_name(f"play_{self.package.replace('-', '_')}.py")


PEERS = (
    Peer("limit-order-book", "3.1.0", ("3.13", "3.15")),
    Peer("bourse", "0.4.0", ("3.12", "3.15")),
    Peer("pams", "0.3.0", ("3.12", "3.13"), simulator=True),  # wants a NumPy that later Pythons cannot have
)


class PeerFailed(Exception):
    """A peer could not be installed or did not run; the message is one line that says why."""


class PeerPass(NamedTuple):
    """What a peer's program reports: seconds of each pass, messages (or orders) in one, and the totals it can tell."""

    seconds: list[float]
    messages: int
    totals: dict[str, int]


def install(peer: Peer) -> bool:
    """Make its environment, unless it is there. Gives whether there was anything to do.

    Raises:
        PeerFailed: where no fitting Python is found or the package cannot be installed.
    """
    complete = peer.environment / "complete"
    if complete.exists() and complete.read_text() == peer.version:
        return False
    shutil.rmtree(peer.environment, ignore_errors=True)
    at_least, below = peer.pythons
    found = _run(["env", "-u", "PYTHON", CHECKOUT / "tools" / "find-python", at_least, below])
    if found.returncode != 0:
        raise PeerFailed(f"it needs Python {at_least} or later, below {below}, and none is here")
    made = _run([found.stdout.strip(), "-m", "venv", peer.environment])
    if made.returncode == 0:
        pip = [peer.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        made = _run([*pip, f"{peer.package}=={peer.version}"])
    if made.returncode != 0:
        shutil.rmtree(peer.environment, ignore_errors=True)
        raise PeerFailed((made.stderr.strip() or made.stdout.strip()).splitlines()[-1])
    complete.write_text(peer.version)
    return True


def play(peer: Peer, tape: Tape | None, repeat: int) -> PeerPass:
    """Run its program on the tape, in its environment. A simulator needs none.

    Raises:
        PeerFailed: where it is not installed or stops with an error.
    """
    if not (peer.environment / "complete").exists():
        raise PeerFailed("not installed (make bench-peers)")
    with tempfile.TemporaryDirectory(prefix="abm-bench-") as folder:
        path = Path(folder) / "tape"
        if tape is not None:
            tape.rows.tofile(path)
        done = _run([peer.python, "-I", peer.program, path, str(repeat)])
    if done.returncode != 0:
        raise PeerFailed((done.stderr.strip() or "it stopped").splitlines()[-1])
    return PeerPass(**json.loads(done.stdout.splitlines()[-1]))


def _run(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
