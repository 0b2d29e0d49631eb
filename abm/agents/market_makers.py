"""Market makers: firms that quote several books out of one capital, lean against what they hold, and step back when it gets rough.

One account is one firm. Where it quotes follows Avellaneda and Stoikov (2008) or Gueant, Lehalle and Fernandez-Tapia (2013), see `quoting`;
how much, the depth curve D(x) = D100 (x / 100 bp)^exponent (MECHANICS 1). A firm's risk is what it holds of an underlying in all books
together, and what it loses anywhere counts against one limit: so stress in one market thins the others. When and for how long firms step back
is MECHANICS 8; that losses make them quote less is what Comerton-Forde et al. (2010), Journal of Finance 65:295, saw of specialists.
One compiled pass, `desks`, decides for all firms and books.
"""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from mesa.time import Schedule
from pydantic import Field, model_validator

from abm.agents import desks
from abm.agents.base import BooksConfig, Coins, Floats, Numbers, Population, TraderConfig, trader
from abm.agents.view import BPS, View
from abm.clock import Seconds
from abm.exchange.description import Frozen
from abm.exchange.gateway import Latency
from abm.exchange.instrument import Instrument
from abm.exchange.messages import MESSAGE, Phase, Records
from abm.world.fundamental import YEAR

if TYPE_CHECKING:
    from abm.scenario import Scenario

Rule = Literal["avellaneda_stoikov", "glft"]

_BRACKET_USED = 0.9  # part of a margin bracket that a position may take up: prices move before an order arrives


# ------------------------------------------------------------------ configuration


class BookTerms(Frozen):
    """How the firms quote one book."""

    underlying: str = Field(
        "",
        description="books of one underlying count together as risk; the instrument's name up to its first dash where left out",
        examples=["btc"],
    )
    depth_usd: float = Field(
        gt=0, description="currency a side within 100 bp in the calm, all firms together", examples=[12e6]
    )
    depth_exponent: float = Field(
        0.67, gt=0, le=2, description="depth within x grows as x to this power", examples=[0.67]
    )
    levels: int = Field(10, ge=2, le=100, description="quotes a side", examples=[10])
    outermost_bps: float = Field(
        150.0, gt=0, le=5000, description="distance of the last quote, basis points", examples=[150]
    )
    rule: Rule = Field("glft", description="where quotes are centred and how far apart they are", examples=["glft"])
    half_spread: tuple[float, float] = Field(
        (0.008, 0.65),
        description="least and greatest half-spread among the firms in the calm, in one-minute volatilities; firms lie between at equal ratios",
        examples=[[0.008, 0.65]],
    )
    calm_volatility: float = Field(
        0.42, gt=0, le=5, description="a year; where size and spread are as given", examples=[0.42]
    )
    inventory_limit: float = Field(
        2.0, gt=0, le=100, description="most that a firm holds beyond its target, in its own depth_usd", examples=[2]
    )
    committed: float = Field(
        0.15,
        gt=0,
        le=1,
        description="of kind spot: share of a firm's capital for this book, half of it in coins, which is its target",
        examples=[0.15],
    )
    leverage: float = Field(
        5.0, ge=1, le=1000, description="with margin: leverage that the firms' accounts are set to", examples=[5]
    )
    impact_bps: float = Field(
        0.248,
        ge=0,
        le=1000,
        description="shift of quotes for a million of currency that takers made the firms trade here, bp",
        examples=[0.248],
    )
    expects: tuple[float, float, float] = Field(
        (0.0, 0.0, 0.0),
        description="weights of what traded here over the three times of `recalls` in the flow that firms expect: what they do teaches nothing",
        examples=[[0.5, 0.0, 0.0]],
    )


class MarketMakersConfig(BooksConfig):
    """Market makers; one account is one firm, which quotes all `books`."""

    accounts: int = Field(10, ge=0, le=1000, description="firms", examples=[10])
    tier: int = Field(1, ge=0, le=255, description="fee tier: an index into the instrument's fees", examples=[1])
    latency: Latency = Field(Latency(base=1.0, spread=2.0), description="time from a decision to the exchange")
    capital: tuple[float, ...] = Field(
        (450e6, 450e6, 450e6) + (90e6,) * 7, description="currency, one for each firm", examples=[[450e6, 90e6]]
    )
    books: dict[str, BookTerms] = Field(
        {"btc-spot": BookTerms(depth_usd=12e6)},
        min_length=1,
        description="what is quoted, and how, by instrument; one laid over with nothing is left out; the news of the first book of an "
        "underlying is that of all",
        examples=[{"btc-spot": {"depth_usd": 12e6}, "btc-perp": {"depth_usd": 60e6}}],
    )
    lean: float = Field(
        1.0,
        gt=0,
        le=10,
        description="shift of quotes at full inventory in the calm, in one-minute volatilities",
        examples=[1],
    )
    horizon: Seconds = Field(
        3600.0, gt=0, description="avellaneda_stoikov: time until inventory is valued at the mid", examples=["1h"]
    )
    orders_per_second: float = Field(
        1.0, gt=0, le=1000, description="glft: orders a second that would reach a quote at the mid", examples=[1]
    )
    value_at_risk: float = Field(
        0.015, gt=0, lt=1, description="share of its equity that a firm's inventories put at risk", examples=[0.015]
    )
    var_horizon: Seconds = Field(3600.0, gt=0, description="over which time, in one case of a hundred", examples=["1h"])
    size_exponent: float = Field(
        0.5, ge=0, le=3, description="size shrinks as volatility to this power", examples=[0.5]
    )
    news: float = Field(
        1.0, ge=0, le=1, description="part of the news that quotes follow at once, without a trade", examples=[1]
    )
    cross: float = Field(
        0.9,
        ge=0,
        le=1,
        description="part of the shift by trades in one book that the other books of its underlying follow",
        examples=[0.9],
    )
    concavity: float = Field(
        1.0, gt=0, le=1, description="shift by what traded in a step grows as its volume to this power", examples=[0.6]
    )
    recalls: tuple[Seconds, Seconds, Seconds] = Field(
        (60.0, 1200.0, 14_400.0),
        description="half-lives of what they remember of the flow",
        examples=[["1min", "20min", "4h"]],
    )
    stop_side_at: float = Field(
        0.9, gt=0, lt=1, description="inventory, of its limit, where the side that adds to it goes", examples=[0.9]
    )
    pull_sigmas: tuple[float, float] = Field(
        (4.0, 12.0), description="one-minute move that alarms firms, in volatilities: least, greatest among them"
    )
    pull_gap_bps: tuple[float, float] = Field(
        (40.0, 120.0),
        description="gap between books of one underlying, beyond the usual, that alarms them, bp: least, greatest",
    )
    reaction: tuple[Seconds, Seconds] = Field(
        (0.0, 30.0), description="shortest and longest time that an alarm lasts before a firm steps back"
    )
    pull: tuple[Seconds, Seconds] = Field(
        (10.0, 120.0), description="shortest and longest time away", examples=[["10s", "2min"]]
    )
    return_size: float = Field(
        0.25, gt=0, le=1, description="fraction of its size a firm returns with", examples=[0.25]
    )
    return_half_life: Seconds = Field(450.0, gt=0, description="half-life of what is missing then", examples=["7.5min"])
    stays: float = Field(
        0.3,
        ge=0,
        le=1,
        description="share of firms with an obligation: alarmed, they quote on in the size of a return",
        examples=[0.3],
    )
    stay_width: float = Field(5.0, ge=1, le=1000, description="their half-spread then, times this", examples=[5])
    stay_sigmas: float = Field(
        25.0, gt=0, description="one-minute move, in volatilities, at which nobody stays", examples=[25]
    )
    loss_limit: float = Field(
        0.015, gt=0, lt=1, description="loss in a day (UTC), of its capital, that makes a firm step back"
    )
    look: tuple[Seconds, Seconds] = Field(
        (1.0, 2.0), description="shortest and longest time between two looks", examples=[["1s", "2s"]]
    )
    keep: float = Field(
        0.5,
        ge=0,
        description="quotes stay while centre and half-spread change by less than this many half-spreads",
        examples=[0.5],
    )
    stale: Seconds = Field(60.0, gt=0, description="quotes are renewed after this time", examples=["1min"])
    memory: Seconds = Field(
        60.0, gt=0, description="half-life with which the price a firm believes in follows the mids", examples=["1min"]
    )
    premium_memory: Seconds = Field(
        3600.0, gt=0, description="half-life with which a gap between books becomes usual", examples=["1h"]
    )
    fast: Seconds = Field(
        300.0, gt=0, description="half-life of the volatility that spread and size follow", examples=["5min"]
    )
    slow: Seconds = Field(
        3600.0,
        gt=0,
        description="half-life of the volatility that moves and value at risk are measured by",
        examples=["1h"],
    )

    @model_validator(mode="after")
    def _each_has_capital(self) -> "MarketMakersConfig":
        if len(self.capital) != self.accounts:
            raise ValueError(
                f"capital has {len(self.capital)} entries for {self.accounts} accounts; give one for each firm"
            )
        if min(self.capital, default=1.0) <= 0:
            raise ValueError("capital must be greater than 0 for each firm")
        if self.stay_sigmas < self.pull_sigmas[1]:
            raise ValueError("stay_sigmas must not be less than the greater of pull_sigmas; raise stay_sigmas")
        for name in ("pull_sigmas", "pull_gap_bps", "reaction", "pull", "look"):
            least, greatest = getattr(self, name)
            if not 0 <= least <= greatest:
                raise ValueError(f"{name} must be two numbers of at least 0, the smaller first")
        for name, terms in self.books.items():
            least, greatest = terms.half_spread
            # A unit of inventory shifts the quotes by less than they are wide.
            if not self.lean / (2.0 * desks.UNITS) < least <= greatest:
                raise ValueError(
                    f"books.{name}.half_spread must be two numbers above lean / {2 * desks.UNITS:g}, the smaller first"
                )
        return self


def underlying_of(book: str, terms: BookTerms) -> str:
    """What a book counts as risk of: as configured, or its instrument's name up to the first dash."""
    return terms.underlying or book.partition("-")[0]


# ------------------------------------------------------------------ the population


def calibrate(
    rule: Rule, half: Floats, lean: float, volatility: float, horizon: float, orders_per_second: float
) -> tuple[Floats, Floats]:
    """Risk aversion gamma and decay k with which a rule gives what is wanted in the calm; the inverse of `quoting`.

    Args:
        rule: The rule.
        half: Half-spreads wanted, currency.
        lean: Shift of the centre wanted at a full inventory of `desks.UNITS`, currency.
        volatility: Of the mid in the calm, currency per square root of a second.
        horizon: Avellaneda and Stoikov's T - t, seconds.
        orders_per_second: Gueant, Lehalle and Fernandez-Tapia's A.

    Returns:
        gamma and k for each half-spread, per currency.
    """
    shift = np.full(len(half), lean / desks.UNITS)  # for one unit
    middle = half - shift / 2.0  # what both rules make ln(1 + gamma / k) / gamma
    if rule == "avellaneda_stoikov":
        gamma = shift / (volatility**2 * horizon)
        return gamma, gamma / np.expm1(gamma * middle)
    # shift^2 = sigma^2 r / (2 A) (1 + r)^(1 + 1 / r) with r = gamma / k: a contraction, as the power is nearly constant
    wanted = 2.0 * orders_per_second * (shift / volatility) ** 2
    ratio = wanted / math.e
    for _ in range(100):
        ratio = wanted / np.exp((1.0 + 1.0 / ratio) * np.log1p(ratio))
    decay = np.log1p(ratio) / (ratio * middle)
    return ratio * decay, decay


@trader("market_makers")
class MarketMakers(Population):
    """Firms that quote both sides of several books."""

    channel = "market_making"
    config: MarketMakersConfig

    @classmethod
    def parts(cls, name: str, config: TraderConfig, scenario: "Scenario") -> Mapping[str, TraderConfig]:
        """One population; where the channel is off, one for each underlying, with the part of the capital that its depth has of all."""
        assert isinstance(config, MarketMakersConfig)
        of = {underlying_of(book, terms): None for book, terms in config.books.items()}
        if scenario.channels.on(cls.channel) or len(of) == 1:
            return {name: config}
        total, separate = sum(terms.depth_usd for terms in config.books.values()), {}
        for underlying in of:
            books = {book: terms for book, terms in config.books.items() if underlying_of(book, terms) == underlying}
            part = sum(terms.depth_usd for terms in books.values()) / total
            changed = {
                "books": books,
                "capital": tuple(part * c for c in config.capital),
                "instrument": next(iter(books)),
            }
            separate[f"{name}-{underlying}"] = config.model_copy(update=changed)
        return separate

    def setup(self) -> None:
        """Lay out firms, books, and what each firm does in each; all look in the first step and differ from then on."""
        c, n, market = self.config, self.size, self.model
        self.silent = False  # firms quote without the channel too
        underlyings = [self._underlying(name) for name in c.books]
        self._leaders = {u: next(name for name in c.books if self._underlying(name) == u) for u in underlyings}
        rows = slice(self.first, self.first + n)
        self._state = desks.State(
            terms=self._terms(),
            firms=self._firms(),
            underlyings=np.zeros(len(self._leaders), desks.UNDERLYING),
            books=np.zeros(len(c.books), desks.BOOK),
            desks=np.zeros((n, len(self._leaders)), desks.DESK),
            quotes=np.zeros((n, len(c.books)), desks.QUOTE),
            mids=np.zeros(len(c.books)),
            minutes=np.zeros(len(c.books)),
            live=np.ones(len(c.books), np.bool_),
            priced=np.ones(len(c.books), np.bool_),
            calls=np.zeros(len(c.books), np.bool_),
            news=np.ones(len(self._leaders)),
            cash=market.cash[rows],
            position=market.position[rows],
            basis=market.exchange.accounts.basis[rows],
            out=np.zeros(n * sum(2 + 2 * terms.levels for terms in c.books.values()), MESSAGE),
        )
        self._state.desks["size"], self._state.desks["leaves_at"] = 1.0, np.inf
        width = self._rank("width", np.asarray(c.capital))
        for b, name in enumerate(c.books):
            self._open(b, name, list(self._leaders).index(underlyings[b]), width)
        self._may_stop = any(
            traded.calendar or traded.opening != "continuous" or any(rule.rule != "price_band" for rule in traded.rules)
            for traded in market.exchange.instruments
        )
        self._live_since = np.zeros(len(c.books))
        self._values = [market.worth(name) for name in self._leaders.values()]  # as of the last step
        luck, draws = self.random("time"), n * (1 + 2 * len(self._leaders))
        self._luck = self.block(lambda k: luck.random(k), max(8192, draws))
        clock = market.scenario.clock
        midnight = (clock.utc(market.time_ns) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        market.schedule_recurring(
            self._new_day, Schedule(interval=clock.units("1d"), start=clock.units(clock.seconds_at(midnight)))
        )
        self.every_step = True

    def _underlying(self, name: str) -> str:
        return underlying_of(name, self.config.books[name])

    def carries(self) -> dict[str, Floats]:
        """The depth within 100 basis points that each firm quotes in the calm, currency."""
        share = np.asarray(self.config.capital) / sum(self.config.capital)
        return {name: terms.depth_usd * share for name, terms in self.config.books.items()}

    def _rank(self, purpose: str, first: Floats | None = None) -> Floats:
        """Where each firm stands among all, from 0 to 1, one in each of equal parts; in the order of `first` from the greatest, else by lot."""
        rng = self.random(purpose)
        keys = np.zeros(self.size) if first is None else -first
        places = np.empty(self.size)
        places[np.lexsort((rng.random(self.size), keys))] = np.arange(self.size)
        return np.asarray((places + rng.random(self.size)) / max(self.size, 1))

    def _terms(self) -> Records:
        terms = np.zeros(1, desks.TERMS)
        for name, _ in desks.CONFIGURED:
            terms[name] = getattr(self.config, name)
        for k, value in enumerate(self.config.recalls):
            terms[f"recalls_{k}"] = value
        for name in desks.RANGES:
            terms[f"{name}_min"], terms[f"{name}_max"] = getattr(self.config, name)
        return terms

    def _firms(self) -> Records:
        c = self.config
        firms, capital, nerve = np.zeros(self.size, desks.FIRM), np.asarray(c.capital, np.float64), self._rank("nerve")
        firms["share"] = capital / max(capital.sum(), 1.0)
        firms["loss_limit"], firms["equity_from"] = c.loss_limit * capital, capital
        for field, (least, greatest), unit in (
            ("pull_at", c.pull_sigmas, 1.0),
            ("gap_at", c.pull_gap_bps, BPS),
        ):
            firms[field] = (least + (greatest - least) * nerve) * unit
        firms["stays"][self.random("stays").permutation(self.size)[: round(c.stays * self.size)]] = True
        return firms

    def _open(self, b: int, name: str, u: int, width: Floats) -> None:
        """Lay out one book, and what each firm does there."""
        c, s = self.config, self._state
        terms, traded = c.books[name], self._traded(name)
        price = traded.reference_price or 0.0
        book, underlying, quotes = s.books[b], s.underlyings[u], s.quotes[:, b]
        calm = terms.calm_volatility * math.sqrt(desks.MINUTE / YEAR)
        if underlying["calm"] not in (0.0, calm):
            raise ValueError(
                f"traders.{self.name}.books: give all books of {self._underlying(name)} one calm_volatility"
            )
        underlying["calm"], underlying["fast"], underlying["slow"] = calm, calm**2, calm**2
        most = terms.inventory_limit * terms.depth_usd * s.firms["share"]
        if traded.margin is not None:
            leverage = min(terms.leverage, traded.margin.leverage)
            self.set_leverage(name, leverage)
            brackets = [row.up_to or math.inf for row in traded.margin.rows if row.leverage >= leverage]
            most = np.minimum(most, _BRACKET_USED * brackets[-1])
            book["margined"], book["leverage"] = True, leverage
        quotes["most"] = most / price
        s.desks["calm_limit"][:, u] += quotes["most"]
        if traded.kind == "spot":
            coins = np.asarray(c.capital) * terms.committed / 2.0 / price
            quotes["target"] = np.floor(coins / traded.lot) * traded.lot
        quotes["fair"] = price
        underlying["price"] = underlying["price"] or price
        least, greatest = terms.half_spread
        quotes["risk_aversion"], quotes["decay"] = calibrate(
            terms.rule,
            least * (greatest / least) ** width * calm * price,
            c.lean * calm * price,
            calm * price / math.sqrt(desks.MINUTE),
            c.horizon,
            c.orders_per_second,
        )
        for field, value in {
            "tick": traded.tick,
            "lot": traded.lot,
            "reference": price,
            "depth": terms.depth_usd,
            "exponent": terms.depth_exponent,
            "outermost": terms.outermost_bps * BPS,
            "premium": price / underlying["price"] - 1.0,
            "impact": terms.impact_bps * BPS,
            **{f"expects_{k}": value for k, value in enumerate(terms.expects)},
            "index": self.model.exchange.index(name),
            "underlying": u,
            "levels": terms.levels,
            "max_tick": traded.n_ticks - 1,
            "lots": round(float(quotes["target"].sum()) / traded.lot),
            "derivative": traded.kind != "spot",
            "glft": terms.rule == "glft",
        }.items():
            book[field] = value

    def _traded(self, name: str) -> Instrument:
        where = f"traders.{self.name}.books.{name}"
        if name not in self.model.scenario.instruments:
            raise ValueError(f"{where}: not traded here; there is {', '.join(self.model.scenario.instruments)}")
        traded = self.model.scenario.instruments[name]
        if traded.kind == "inverse" or (traded.kind != "spot" and traded.margin is None):
            raise ValueError(f"{where}: firms quote spot, and linear contracts with margin; leave it out")
        return traded

    def endow(self) -> tuple[Numbers, Coins]:
        """All of the capital: the targets of spot books in coins, the rest in cash."""
        quotes, books = self._state.quotes, self._state.books
        coins = {name: quotes["target"][:, b] for b, name in enumerate(self.config.books)}
        cash = np.asarray(self.config.capital) - (quotes["target"] * books["reference"]).sum(axis=1)
        if (cash < 0).any():
            raise ValueError(f"traders.{self.name}.books: coins cost more than the firms' capital; lower committed")
        return cash, {name: each for name, each in coins.items() if each.any()}

    @property
    def away(self) -> npt.NDArray[np.bool_]:
        """Which firms have stepped back entirely from which underlying (firms, underlyings)."""
        mine = self._state.desks
        return np.asarray((mine["back_at"] > self.model.seconds) & ~mine["wide"])

    def _new_day(self) -> None:
        """Losses are counted anew."""
        self._state.firms["equity_from"] = self._state.firms["equity"]

    def decide(self, view: View) -> Records | None:
        """Quotes of the firms that look now, each after the withdrawal of its old ones."""
        s, model = self._state, self.model
        if self._may_stop:
            phase = model.tops()["phase"][s.books["index"]]
            live = phase == Phase.CONTINUOUS
            self._live_since[live & ~s.live] = view.seconds
            s.live[:], s.calls[:] = live, phase == Phase.CALL
        for b, name in enumerate(self.config.books):
            book = view[name]
            s.mids[b] = book.mid
            # Where all have stepped back the last mid stays, while other books move on: that gap is of nobody's making
            s.priced[b] = s.live[b] and book.bid_ticks > 0 and book.ask_ticks > 0
            # What a price did over a night is no move of a minute.
            young = view.seconds < self._live_since[b] + desks.MINUTE
            s.minutes[b] = math.nan if young else book.return_over(desks.MINUTE)
        for u, name in enumerate(self._leaders.values()):
            value = model.worth(name)
            s.news[u] = (value / self._values[u]) ** self.config.news
            self._values[u] = value
        draws = self._luck.take(self.size * (1 + 2 * len(s.news))).reshape(self.size, -1)
        n: int = desks.decide(s, draws, self.first, view.seconds, model.scenario.clock.step)
        return s.out[:n]
