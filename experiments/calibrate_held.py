"""Which trials of a search a command holds, where several commands share a database."""

import contextlib
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import optuna
import sqlalchemy
from optuna.trial import Trial
from sqlalchemy.exc import SQLAlchemyError

GRACE = 60.0
"""A trial whose holder has said nothing for so many seconds is free."""
_FRESH = sqlalchemy.text(
    "SELECT trial_id FROM trial_heartbeats WHERE heartbeat > LOCALTIMESTAMP - make_interval(secs => :grace)"
)
_FREE = sqlalchemy.text("DELETE FROM trial_heartbeats WHERE trial_id = :trial")


class Held:
    """The trials that this command holds: said to the database again and again until they are told, and given back at the end.

    What is said stands in Optuna's table of heartbeats, by the clock of the database. A context manager.
    """

    def __init__(self, storage: optuna.storages.RDBStorage) -> None:
        self._storage, self._grace = storage, GRACE
        self._trials: frozenset[int] = frozenset()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        with contextlib.suppress(SQLAlchemyError), self._storage.engine.begin() as base:
            for trial in self._trials:
                base.execute(_FREE, {"trial": trial})

    def take(self, trials: Sequence[Trial], most: int) -> list[Trial]:
        """Hold some of the trials that nobody holds; whoever calls is alone at it."""
        with self._storage.engine.connect() as base:
            held = {trial for (trial,) in base.execute(_FRESH, {"grace": self._grace})}
        taken = [trial for trial in trials if trial._trial_id not in held][:most]
        for trial in taken:
            self._storage.record_heartbeat(trial._trial_id)
        self._trials |= {trial._trial_id for trial in taken}
        return taken

    def told(self, trial: Trial) -> None:
        """It is over."""
        self._trials -= {trial._trial_id}

    def _beat(self) -> None:
        while not self._over.wait(self._grace / 6):
            for trial in self._trials:
                # whoever plays meets a database that is gone, and tells of it
                with contextlib.suppress(SQLAlchemyError, optuna.exceptions.StorageInternalError):
                    self._storage.record_heartbeat(trial)
        self._storage.remove_session()
