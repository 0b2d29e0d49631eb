"""Miners: the network's coins come to them by hashrate, and they sell what power and policy ask for, reserves last.

MECHANICS 3. The hashprice falls with the coin's price and the power bill does not: a fall makes miners sell more of what they mine, then
turn machines off, and those who run out of cash sell from their reserves.
"""

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from abm.agents.base import Floats, Ints, Numbers, Population, TraderConfig, trader
from abm.agents.view import View
from abm.clock import Seconds
from abm.exchange.messages import Reason, Records, Side
from abm.world.mining import DAY, Mining, MiningNetwork, break_even, hashprice, implied_hashrate


class MinersConfig(TraderConfig, Mining):
    """Miners; one account is one firm, and all together are the network."""

    accounts: int = Field(300, ge=0, le=100_000, description="firms", examples=[300])
    fleet: tuple[tuple[float, float], ...] = Field(
        ((29.5, 0.15), (21.5, 0.25), (18.0, 0.25), (16.0, 0.20), (13.5, 0.12), (9.5, 0.03)),
        min_length=1,
        description="machines: J/TH, share of the hashrate that is installed",
        examples=[[[21.5, 0.6], [16, 0.4]]],
    )
    power_median: float = Field(0.055, gt=0, lt=1, description="median price of power, USD/kWh", examples=[0.055])
    power_sigma: float = Field(0.22, ge=0, le=2, description="standard deviation of its logarithm", examples=[0.22])
    difficulty_price: float | None = Field(
        None,
        gt=0,
        description="mean price while the blocks were found by which the difficulty was set, so that it tells who was on then; the price "
        "at the start where left out",
        examples=[92_600],
    )
    margin_band: float = Field(
        0.05, ge=0, lt=1, description="margins this far from 0, as a fraction of revenue, turn machines off or on"
    )
    shutdown: Seconds = Field(3 * DAY, ge=0, description="time below the band until machines are off", examples=["3d"])
    restart: Seconds = Field(2 * DAY, ge=0, description="time above the band until they are on", examples=["2d"])
    reserve: float = Field(1.8e6, ge=0, description="coins in reserve, all firms together", examples=[1.8e6])
    cash_days: tuple[float, float] = Field(
        (60.0, 180.0), description="days of power that firms have in cash: least, greatest"
    )
    sell_share: tuple[float, float] = Field(
        (0.6, 1.0), description="part of production that firms sell: least, greatest"
    )
    low_cash_days: float = Field(
        60.0, ge=0, description="below so many days of power in cash, reserves are sold", examples=[60]
    )
    reserve_rate: float = Field(
        0.02, ge=0, le=1, description="largest part of the reserve sold in a day", examples=[0.02]
    )
    every: Seconds = Field(3600.0, gt=0, description="mean time between two sales of a firm", examples=["1h"])
    slippage: float = Field(
        0.005, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.005]
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> "MinersConfig":
        for name in ("cash_days", "sell_share"):
            least, greatest = getattr(self, name)
            if not 0 <= least <= greatest:
                raise ValueError(f"{name} must be two numbers of at least 0, the smaller first")
        if any(joules <= 0 or share <= 0 for joules, share in self.fleet):
            raise ValueError("fleet needs J/TH and shares above 0")
        return self


@trader("miners")
class Miners(Population):
    """Firms that mine and sell. Cash beyond some days of power is drawn on first; below that production pays, and then the reserve."""

    config: MinersConfig

    def setup(self) -> None:
        """Draw the fleet, turn off what loses money, and start the network."""
        c, n = self.config, self.size
        self.efficiency, share = self._fleet()
        """J/TH of each firm's machines."""
        self.power = c.power_median * np.exp(c.power_sigma * self.random("power").standard_normal(n))
        """Each firm's price of power in USD/kWh."""
        self._break_even = break_even(self.efficiency, self.power)
        price = self.model.view()[c.instrument].mid
        then = c.difficulty_price or price
        mined, self.on = self._pays(then), self._pays(price)
        """Whether each firm's machines are on."""
        if n and not (mined.any() and self.on.any()):
            raise ValueError(
                f"{self.name}: at {min(then, price):g} no firm can pay for its power; lower difficulty or power_median"
            )
        # The difficulty tells what was on when it was set; what is installed follows.
        self.installed = share * (implied_hashrate(c.difficulty, c.block_interval) / share[mined].sum() if n else 0.0)
        """EH/s that each firm has, on or off."""
        self.power_bill = self._break_even * self.installed * 1e3
        """Currency a day that each firm pays for power while it is on."""
        low, high = c.sell_share
        self.sells = low + (high - low) * self.random("policy").random(n)
        """Part of its production that a firm sells."""
        self._kept = c.reserve * share
        self._arrears, self._owed, self._collected_at, self._looked_at = (np.zeros(n) for _ in range(4))
        self._looked_at += self.model.seconds
        self._wants_since = np.full(n, np.inf)
        self.network = MiningNetwork(self.model, c, float(self.installed[self.on].sum()), self.random("blocks"))
        """The network that they are."""
        self._wakeups = self.wakeups(c.every)
        self.wake_every(max(c.every / 12.0, self.model.scenario.clock.step), start=self.model.seconds)

    def _fleet(self) -> tuple[Floats, Floats]:
        """Each firm's J/TH, and its share of what is installed; machines of a kind have the share that the fleet says."""
        joules, shares = np.array(self.config.fleet, np.float64).T
        n = self.size
        kind = np.searchsorted(np.cumsum(shares) / shares.sum(), (np.arange(n) + 0.5) / max(n, 1))
        weight = np.exp(self.random("hashrate").standard_normal(n))
        share = weight / np.bincount(kind, weight, len(joules))[kind] * shares[kind]
        return joules[kind], share / share.sum()

    def _pays(self, price: float) -> npt.NDArray[np.bool_]:
        """Who does not lose so much at a price that it would be off after some days."""
        c = self.config
        revenue = hashprice(price, c.difficulty, c.subsidy, c.fees)
        return np.asarray(revenue - self._break_even >= -c.margin_band * revenue)

    def endow(self) -> tuple[Numbers, Numbers]:
        """Some days of power in cash, and the reserve by hashrate."""
        least, greatest = self.config.cash_days
        days = least + (greatest - least) * self.random("treasury").random(self.size)
        return self.power_bill * days, self._kept

    @property
    def opex(self) -> Floats:
        """Currency a day that each firm pays for power now."""
        return self.power_bill * self.on

    def margin(self, price: float) -> Floats:
        """Revenue less power as a fraction of revenue, of each firm while it is on, at a price of the coin."""
        return 1.0 - self._break_even / self.network.hashprice(price)

    def decide(self, view: View) -> Records | None:
        """Those who look collect their coins, pay for power, turn machines off or on, and sell."""
        who = self._wakeups.due(view.seconds)
        if len(who) == 0:
            return None
        c, book = self.config, view[self.config.instrument]
        days = (view.seconds - self._looked_at[who]) / DAY
        self._looked_at[who] = view.seconds
        produced = self._collect(who, book.instrument.lot)
        self._pay_power(who, days)
        self._switch(who, view.seconds, book.mid)
        quantity = self._for_sale(who, days, produced, book.mid)
        return self.market(book, Side.SELL, quantity, who=who, reason=Reason.MINING, slippage=c.slippage)

    def _collect(self, who: Ints, lot: float) -> Floats:
        """Credit coins mined since the last look, by hashrate, as a pool would share them out; parts of a lot are owed on."""
        earned = self.network.coins_per_ehs
        produced: Floats = self.installed[who] * self.on[who] * (earned - self._collected_at[who])
        self._collected_at[who] = earned
        owed = self._owed[who] + produced
        whole = np.floor(owed / lot + 1e-6) * lot
        self._owed[who] = owed - whole
        self.model.house.credit(self.rows[who], "block reward", coins=whole, instrument=self.config.instrument)
        return produced

    def _pay_power(self, who: Ints, days: Floats) -> None:
        """Pay for the power of these days out of cash as far as it goes, the rest later."""
        due = self.opex[who] * days + self._arrears[who]
        paid = np.minimum(due, np.maximum(self.free_margin(who), 0.0))
        self.model.house.debit(self.rows[who], "power", cash=paid)
        self._arrears[who] = due - paid

    def _switch(self, who: Ints, now: float, price: float) -> None:
        """Turn off who has lost money for some days, and on who would have earned some."""
        c, on = self.config, self.on[who]
        margin = self.margin(price)[who]
        wants = np.where(on, margin < -c.margin_band, margin > c.margin_band)
        since = np.where(wants, np.minimum(self._wants_since[who], now), np.inf)
        flips = now - since >= np.where(on, c.shutdown, c.restart)
        self._wants_since[who] = np.where(flips, np.inf, since)
        if flips.any():
            self.on[who] ^= flips
            self.network.hashrate = float(self.installed[self.on].sum())

    def _for_sale(self, who: Ints, days: Floats, produced: Floats, price: float) -> Floats:
        """Coins: of production what policy or lack of cash asks for, what found no buyer before, and of the reserve what is lacking yet."""
        c = self.config
        spare = self.free_cash(who) - self._arrears[who] - c.low_cash_days * self.opex[who]
        lacking = np.maximum(-spare, 0.0) / price
        sold = np.minimum(np.maximum(self.sells[who] * produced, lacking), produced)
        kept = self._kept[who] + produced - sold
        on_offer = np.maximum(self.free_holdings(who=who) + self._owed[who] - kept, 0.0)
        from_reserve = np.clip(lacking - on_offer, 0.0, c.reserve_rate * days * kept)
        self._kept[who] = kept - from_reserve
        return on_offer + from_reserve
