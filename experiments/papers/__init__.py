"""Papers whose results the product must come to: a folder each, run by `abm reproduce` (docs/how-to/new-paper.md).

Here is what the model of a paper is written with, and how its folder is found and read.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import Field, ValidationError

from abm.exchange.description import Frozen
from abm.scenario import ScenarioError, meant

Progress = Callable[[int, int], None]
"""Called now and then by a model with how much is done, and of how much."""


class Parameters(Frozen):
    """Parameters of a paper. Each paper extends it, and gives `runs` and `QUICK_RUNS` numbers of its own."""

    QUICK_RUNS: ClassVar[int] = 1

    seed: int = Field(1, ge=0, lt=2**63, description="seed of all random streams")
    runs: int = Field(1, ge=1, le=10**9, description="replications")

    @property
    def moved(self) -> bool:
        """Whether anything differs from the paper's parameters; seed and number of replications are not the paper's."""
        return any(
            getattr(self, name) != field.get_default(call_default_factory=True)
            for name, field in type(self).model_fields.items()
            if name not in Parameters.model_fields
        )


class Estimate(NamedTuple):
    """A measured value and its standard error, 0 where it has none."""

    value: float
    error: float = 0.0

    @classmethod
    def mean(cls, sample: npt.ArrayLike) -> "Estimate":
        """Mean of independent draws."""
        draws = np.asarray(sample, np.float64)
        return cls(float(draws.mean()), float(draws.std(ddof=1) / len(draws) ** 0.5) if len(draws) > 1 else 0.0)

    @classmethod
    def share(cls, hits: int, count: int) -> "Estimate":
        """Probability from `hits` of `count` draws; the error stays above 0 where all or none hit."""
        smooth = (hits + 1) / (count + 2)
        return cls(hits / count, (smooth * (1 - smooth) / count) ** 0.5)


class Measured(NamedTuple):
    """What a model came to: estimates by quantity, and whatever its figure needs."""

    estimates: Mapping[str, Estimate]
    drawn: Any = None


@dataclass(frozen=True)
class Paper:
    """One folder: `model.py` with `Config`, `measure(config, progress)` and, if it can, `exact(config)`; `figure.py` with `draw`."""

    name: str
    folder: Path

    @property
    def title(self) -> str:
        """The heading of its README."""
        return (self.folder / "README.md").read_text("utf-8").splitlines()[0].lstrip("# ")

    @property
    def model(self) -> ModuleType:
        """Its model, imported when it is asked for."""
        return import_module(f"{__name__}.{self.folder.name}.model")

    @property
    def figure(self) -> ModuleType:
        """How its figure is drawn."""
        return import_module(f"{__name__}.{self.folder.name}.figure")

    def configured(self, changes: Sequence[str], quick: bool = False) -> Parameters:
        """Its parameters, with `key=value` changes read as YAML.

        Raises:
            ScenarioError: a key or value is wrong; one line says which.
        """
        given: dict[str, Any] = {"runs": self.model.Config.QUICK_RUNS} if quick else {}
        for text in changes:
            key, equals, value = text.partition("=")
            if not (equals and key.isidentifier()):
                raise ScenarioError(f"{text!r}: write key=value, such as seed=2 (abm reproduce {self.name} --list)")
            try:
                given[key] = yaml.safe_load(value)
            except yaml.YAMLError:
                raise ScenarioError(f"{self.name}: {key} = {value!r} cannot be read") from None
        try:
            config: Parameters = self.model.Config.model_validate(given)
        except ValidationError as error:
            raise ScenarioError(f"{self.name}: {self._explained(error)}") from None
        return config

    def _explained(self, error: ValidationError) -> str:
        detail, see = error.errors(include_url=False)[0], f" (abm reproduce {self.name} --list)"
        key = ".".join(map(str, detail["loc"]))
        if detail["type"] == "extra_forbidden":
            return f"{key} is not a parameter{meant(key, self.model.Config.model_fields)}{see}"
        message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
        return f"{key} = {detail['input']!r} {message}{see}" if key else f"{message}{see}"

    def parameters(self) -> list[tuple[str, str, str]]:
        """Its parameters: key, default, meaning."""
        fields = self.model.Config.model_fields
        return [(key, f"{field.default}", field.description or "") for key, field in fields.items()]


def papers() -> dict[str, Paper]:
    """All papers by name, which is that of the folder with dashes and without the year."""
    folders = sorted(path.parent for path in Path(__file__).parent.glob("*/reference.csv"))
    named = {re.sub(r"_\d{4}$", "", folder.name).replace("_", "-"): folder for folder in folders}
    return {name: Paper(name, folder) for name, folder in named.items()}


def find(name: str) -> Paper:
    """The paper of a name.

    Raises:
        ScenarioError: there is none.
    """
    known = papers()
    if name not in known:
        raise ScenarioError(f"{name}: no such paper{meant(name, known)} (abm reproduce --list)")
    return known[name]
