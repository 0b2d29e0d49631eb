"""A treasury company: it issues shares to buy coins while they are dear, and sells coins only when nothing else is left.

MECHANICS 5. mNAV is what the company costs for each coin it holds, in coins. Above 1 new shares buy more coins than they dilute; below 1
they do not, and the company is a fear channel more than a seller: obligations are paid from cash for years.
"""

import math
from datetime import timedelta

from pydantic import Field, model_validator

from abm.agents.base import Numbers, Trader, TraderConfig, trader
from abm.agents.view import View
from abm.clock import Seconds
from abm.exchange.messages import Reason

DAY = 86400.0
YEAR = 365 * DAY


class TreasuryConfig(TraderConfig):
    """A treasury company."""

    accounts: int = Field(1, ge=1, le=1, description="accounts; one company is one", examples=[1])
    coins: float = Field(713_502.0, ge=0, description="coins it holds, none pledged", examples=[713_502])
    average_cost: float = Field(76_052.0, gt=0, description="what a coin cost it in currency", examples=[76_052])
    cash: float = Field(2.25e9, ge=0, description="currency it holds", examples=[2.25e9])
    debt: float = Field(8.2e9, ge=0, description="debt in currency", examples=[8.2e9])
    preferred: float = Field(
        8.4e9, ge=0, description="preferred shares at their face value, currency", examples=[8.4e9]
    )
    obligations: float = Field(
        0.775e9, ge=0, description="interest and preferred dividends, currency a year", examples=[0.775e9]
    )
    shares: float = Field(331e6, gt=0, description="common shares at the start", examples=[331e6])
    share: str | None = Field(
        None, description="name of the instrument that is its share, if it is traded here", examples=["treasury-share"]
    )
    share_price: float = Field(
        129.0, gt=0, description="price of a share at the start, where it is not traded here", examples=[129]
    )
    share_beta: float = Field(
        1.3, ge=0, le=10, description="where it is not traded here, its price follows the coin's to this power"
    )
    issuance: float = Field(
        20e6, ge=0, description="currency raised by new shares in an hour of trading, at most", examples=[20e6]
    )
    shut_fall: float = Field(
        0.25, gt=0, lt=1, description="fall of the share that shuts capital markets to the company", examples=[0.25]
    )
    shut_window: Seconds = Field(5 * DAY, gt=0, description="over which that fall is measured", examples=["5d"])
    low_cash: Seconds = Field(
        YEAR / 2, gt=0, description="obligations that cash must cover, else coins may be sold", examples=["182d"]
    )
    sell_rate: float = Field(0.01, ge=0, le=1, description="largest part of the coins sold in a day", examples=[0.01])
    every: Seconds = Field(600.0, gt=0, description="time between two decisions", examples=["10min"])
    slippage: float = Field(
        0.005, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.005]
    )

    @model_validator(mode="after")
    def _share_is_another(self) -> "TreasuryConfig":
        if self.share == self.instrument:
            raise ValueError(
                "share is the coin itself; name the instrument that is the company's share, or leave it out"
            )
        return self


@trader("treasury")
class TreasuryCompany(Trader):
    """A company whose balance sheet is coins."""

    config: TreasuryConfig

    def setup(self) -> None:
        """Wake now and then, from now on."""
        c, market = self.config, self.model
        if c.share is not None and c.share not in market.scenario.instruments:
            raise ValueError(
                f"{self.name}.share: {c.share!r} is not traded here; there is {', '.join(market.scenario.instruments)}"
            )
        self.issued = 0.0
        """Shares issued since the start; those not sold yet are among its holdings."""
        self.to_invest = 0.0
        """Currency from new shares that is to buy coins."""
        self.unpaid = 0.0
        """Currency of obligations that are due and not paid."""
        self._start_price = market.view()[c.instrument].mid
        self._cash_before = c.cash
        self._looked_at = market.seconds
        self._sold_coins = False
        self.wake_every(max(c.every, market.scenario.clock.step), start=market.seconds)

    def endow(self) -> tuple[Numbers, Numbers]:
        """Cash, and coins with what was paid for them."""
        c = self.config
        self.model.house.credit(self.rows, "opening", coins=c.coins, instrument=c.instrument, cost=c.average_cost)
        return c.cash, 0.0

    # ------------------------------------------------------------------ its state

    @property
    def share_price(self) -> float:
        """Price of a share in currency; where it is not traded here it follows the coin."""
        c, view = self.config, self.model.view()
        if c.share is not None:
            return view[c.share].mid
        return c.share_price * math.pow(view[c.instrument].mid / self._start_price, c.share_beta)

    @property
    def mnav(self) -> float:
        """(market value of the shares + debt + preferred - cash) / value of the coins; infinite without coins."""
        c = self.config
        coins = self.position() * self.model.view()[c.instrument].mid
        unsold = 0.0 if c.share is None else self.position(c.share)
        value = (c.shares + self.issued - unsold) * self.share_price + c.debt + c.preferred - float(self.cash[0])
        return value / coins if coins > 0 else math.inf

    @property
    def unrealised(self) -> float:
        """What its coins are worth over their average cost at the start, in currency."""
        return self.position() * (self.model.view()[self.config.instrument].mid - self.config.average_cost)

    @property
    def runway(self) -> float:
        """Seconds of obligations that its cash covers, what is due already left out."""
        free = max(float(self.cash[0]) - self.unpaid, 0.0)
        return free / self.config.obligations * YEAR if self.config.obligations else math.inf

    @property
    def markets_open(self) -> bool:
        """Whether capital markets give it money: its share has not fallen too far."""
        c, view = self.config, self.model.view()
        if c.share is not None:
            fall = -view[c.share].return_over(c.shut_window)
        else:
            fall = 1.0 - math.pow(1.0 + view[c.instrument].return_over(c.shut_window), c.share_beta)
        return fall <= c.shut_fall

    @property
    def issues(self) -> bool:
        """Whether it sells new shares to buy coins: mNAV above 1 and markets open."""
        return self.config.share is not None and self.mnav > 1.0 and self.markets_open

    @property
    def sells(self) -> bool:
        """Whether it sells coins: mNAV below 1, markets shut, and not enough cash for obligations."""
        return self.mnav < 1.0 and not self.markets_open and self.runway < self.config.low_cash

    # ------------------------------------------------------------------ what it does

    def act(self, view: View) -> None:
        """Pay what is due, then issue and buy, or sell, or do nothing."""
        elapsed, self._looked_at = view.seconds - self._looked_at, view.seconds
        earned = float(self.cash[0]) - self._cash_before
        if not self._sold_coins:  # then what came in are new shares, less what coins were bought with them
            self.to_invest = max(self.to_invest + earned, 0.0)
        self._pay_obligations(elapsed)
        self._cash_before = float(self.cash[0])
        self._sold_coins = self.sells
        if self._sold_coins:
            self._sell_coins(view, elapsed)
        elif self.issues:
            self._buy_coins(view)
            self._issue_shares(view, elapsed)

    def _pay_obligations(self, elapsed: float) -> None:
        due = self.unpaid + self.config.obligations * elapsed / YEAR
        paid = min(due, max(float(self.free_margin()[0]), 0.0))
        self.model.house.debit(self.rows, "obligations", cash=paid)
        self.unpaid = due - paid

    def _sell_coins(self, view: View, elapsed: float) -> None:
        """Sell what brings cash back to the obligations it must cover, at most some part of the coins a day."""
        c, price = self.config, view[self.config.instrument].mid
        lacking = (c.low_cash - self.runway) / YEAR * c.obligations + self.unpaid
        most = c.sell_rate * elapsed / DAY * self.position()
        self.sell(c.instrument, min(lacking / price, most), reason=Reason.TREASURY, slippage=c.slippage)

    def _buy_coins(self, view: View) -> None:
        """Buy coins with what new shares have brought."""
        c, book = self.config, view[self.config.instrument]
        fee = book.instrument.fees[min(c.tier, len(book.instrument.fees) - 1)].taker
        quantity = self.to_invest / (book.mid * (1.0 + c.slippage) * (1.0 + fee))
        self.buy(c.instrument, quantity, reason=Reason.TREASURY, slippage=c.slippage)

    def _issue_shares(self, view: View, elapsed: float) -> None:
        """Offer new shares at the market for what an hour's issuance asks of the time since the last look, in trading hours."""
        c = self.config
        assert c.share is not None
        book, now = view[c.share], self.model.scenario.clock.utc(view.time_ns)
        calendar = book.instrument.calendar
        if calendar is not None and not calendar.between(now, now + timedelta(seconds=1)):
            return
        wanted = c.issuance * elapsed / 3600.0 / book.mid
        new = book.instrument.lots(max(wanted - self.position(c.share), 0.0)) * book.instrument.lot
        self.model.house.credit(self.rows, "issuance", coins=new, instrument=c.share)
        self.issued += new
        self.sell(c.share, wanted, reason=Reason.TREASURY, slippage=c.slippage)
