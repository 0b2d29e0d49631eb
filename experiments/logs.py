"""What the simulator says of its work: loggers named after its modules, and `abm --verbose`, which prints them on stderr.

In Python they are the standard library's: `logging.getLogger("abm").setLevel("INFO")` and a handler of one's own. INFO tells what is read and kept,
and what takes time; DEBUG each run and each population. Nothing is said at WARNING that nobody can do something about.
"""

import functools
import logging
from typing import Any

from experiments.progress import say

PACKAGES = ("abm", "analysis", "experiments")

_log = logging.getLogger(__name__)


class _Said(logging.Handler):
    """Prints a record as one line, as all that a command says beside its answer."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def listen(verbosity: int) -> None:
    """Print from now on what is logged: nothing but warnings (0), INFO (1) or DEBUG (2)."""
    said = _Said()
    said.setFormatter(logging.Formatter("%(relativeCreated)7.0f ms  %(name)s: %(message)s"))
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers = [handler for handler in logger.handlers if not isinstance(handler, _Said)]
        logger.setLevel({0: logging.NOTSET, 1: logging.INFO}.get(verbosity, logging.DEBUG))
        if verbosity:
            logger.addHandler(said)
    if verbosity:
        _listen_to_compiler()


@functools.cache  # once
def _listen_to_compiler() -> None:
    """Log what is compiled, and not taken from where compiled code is kept."""
    from numba.core import event

    class Compiler(event.Listener):
        begun = False

        def on_start(self, happened: Any) -> None:
            if not self.begun:
                _log.info("compiles what is not compiled yet; all of it takes about half a minute, once")
                self.begun = True
            function = happened.data["dispatcher"].py_func
            _log.debug("compiles %s.%s", function.__module__, function.__qualname__)

        def on_end(self, happened: Any) -> None:
            pass

    event.register("numba:compile", Compiler())
