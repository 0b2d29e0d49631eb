"""What every trader must do: inherit `TraderContract`, name the kind, and pytest finds the rest.

Example:
    class TestDipBuyers(TraderContract):
        kind = "dip_buyers"
"""

import gc
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from abm.agents.base import Population, Trader, kinds
from abm.agents.view import View
from abm.exchange.messages import MESSAGE, Kind, Phase, Records, Reject
from abm.market import Market
from abm.random import Block, Wakeups
from abm.record import Result
from abm.scenario import load_with

_BEYOND_MEANS = (Reject.INSUFFICIENT_FUNDS, Reject.POSITION_LIMIT)


class _Bidder(Trader):
    """Bids and never offers, so that the book has one side."""

    def act(self, view: View) -> None:
        name = self.config.instrument
        if self.holdings(name)[0] == 0 and view.step % 10 == 0:
            self.buy(name, 0.01, view[name].mid * 0.999)


class _Gambler(Trader):
    """Uses up random numbers that nobody's decisions may hang on."""

    def act(self, view: View) -> None:
        self.model.rng.random()
        self.model.random.random()
        np.random.random()  # noqa: NPY002 - that is the point


class TraderContract:
    """Tests that a kind of trader inherits. Set `kind`, and where its defaults do not do the other attributes."""

    kind: ClassVar[str] = ""
    """Name of the kind, as given to the decorator `trader`."""
    config: ClassVar[Mapping[str, Any]] = {}
    """Its configuration."""
    scenario: ClassVar[str] = "first-hour"
    """In which it is put, beside market makers."""
    overrides: ClassVar[Mapping[str, Any]] = {}
    """Laid over the scenario, such as other instruments."""
    beside: ClassVar[tuple[str, ...]] = ("market_makers",)
    """Traders of the scenario that stay."""
    nobody: ClassVar[Mapping[str, Any]] = {"accounts": 0}
    """What makes it a population without accounts: lists with an entry for each account are to be emptied too."""
    duration: ClassVar[str] = "2min"
    """How long it is watched."""

    def market(self, beside: tuple[str, ...] | None = None, **config: Any) -> Market:
        """A market with the trader as `mine`, and some of those of the scenario."""
        keep = self.beside if beside is None else beside
        others = load_with(self.scenario, [self.overrides]).traders
        traders: dict[str, Any] = {name: None for name in others if name not in keep}
        traders["mine"] = {"kind": self.kind, **self.config, **config}
        return Market(load_with(self.scenario, [self.overrides, {"traders": traders}]))

    @staticmethod
    def mine(market: Market) -> Population:
        """The trader in it."""
        return next(population for population in market.populations if population.name == "mine")

    def watched(self, market: Market) -> tuple[Result, npt.NDArray[np.uint8]]:
        """Run for `duration`. Answers the result, and why its own messages were rejected (`Reject`)."""
        rows, rejects, match = self.mine(market).rows, [], market.exchange.match

        def watch(tape: Records) -> Any:
            report = match(tape)
            rejects.append(report.outcomes["reject"][np.isin(tape["owner"], rows)])
            return report

        market.exchange.match = watch  # type: ignore[method-assign]
        market.run_for(self.duration)
        return market.result(), np.concatenate(rejects) if rejects else np.zeros(0, np.uint8)

    def test_it_is_known_by_its_kind(self) -> None:
        """The decorator has registered it, and its configuration has examples and bounds that hold for itself."""
        cls = kinds()[self.kind]
        config = cls.config_class.model_validate({"kind": self.kind, **self.config})
        assert cls.config_class.model_validate(config.model_dump()) == config

    def test_the_same_seed_gives_the_same_run(self) -> None:
        """Two runs of one scenario have one event log."""
        first, second = (self.watched(self.market())[0].summary["event_log_hash"] for _ in range(2))
        assert first == second

    def test_its_chance_is_its_own(self) -> None:
        """Somebody who draws from Mesa's and numpy's random numbers, and does nothing else, changes nothing that it does."""
        alone, _ = self.watched(self.market())
        market = self.market()
        _Gambler(market)
        accompanied, _ = self.watched(market)
        assert accompanied.summary["event_log_hash"] == alone.summary["event_log_hash"]

    def test_what_it_draws_ahead_is_drawn_anew_on_a_branch(self) -> None:
        """Each `Block` and `Wakeups` was made by `self.block` and `self.wakeups`, so that the run knows of it where it branches off."""
        before = {id(drawn) for drawn in gc.get_objects() if type(drawn) in (Block, Wakeups)}
        market = self.market()
        kept = before | {id(drawn) for drawn in market.streams.ahead}
        assert all(id(drawn) in kept for drawn in gc.get_objects() if type(drawn) in (Block, Wakeups))

    def test_it_spends_no_more_than_it_has(self) -> None:
        """Cash and coins are conserved, and none of its orders is refused for lack of means."""
        result, rejects = self.watched(self.market())
        assert result.audit.passed and result.audit.residue == 0, result.audit.faults
        assert not np.isin(rejects, _BEYOND_MEANS).any()

    def test_it_survives_a_halt(self) -> None:
        """Trading stops for a while, and goes on."""
        market = self.market()
        market.run_for("30s")
        self._phase(market, Phase.HALTED)
        market.run_for("20s")
        self._phase(market, Phase.CONTINUOUS)
        result, _ = self.watched(market)
        assert result.audit.passed, result.audit.faults

    @pytest.mark.parametrize("others", [(), ("bidder",)])
    def test_it_survives_a_book_without_sides(self, others: tuple[str, ...]) -> None:
        """Nobody else is there, or somebody who only bids."""
        market = self.market(beside=())
        if others:
            _Bidder(market, cash=100_000.0)
        result, _ = self.watched(market)
        assert result.audit.passed, result.audit.faults

    def test_it_may_have_no_accounts(self) -> None:
        """A population of nobody sends nothing."""
        if self.mine(self.market()).size == 1 and issubclass(kinds()[self.kind], Trader):
            pytest.skip("a Trader is one account")
        market = self.market(**self.nobody)
        result, rejects = self.watched(market)
        assert len(rejects) == 0
        assert result.audit.passed

    @staticmethod
    def _phase(market: Market, phase: Phase) -> None:
        messages = np.zeros(len(market.exchange.instruments), MESSAGE)
        messages["kind"], messages["side"], messages["time"] = Kind.PHASE, phase, market.time_ns
        messages["owner"], messages["instrument"] = -1, np.arange(len(messages))
        market.exchange.match(messages)
