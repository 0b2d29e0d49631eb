"""Half an hour of Bitstamp's BTC/USD, order by order (the sample of ob-analytics): the exchange makes the same trades.

The sample has an order's creation, its changes by fills, and its end; trades come in a file of their own. The
exchange is sent creations and ends only, and makes the trades itself. What the sample does not say, and how it is
filled in:

- It has no order flags. Two thirds of its orders are created at a price that would trade and are deleted at once,
  unfilled: post-only orders. So an order that is never the taker of one of the sample's trades is sent post-only.
- Ghosts: orders of the opening snapshot that rest to the end although the venue's own trades went through their
  price. They were gone before the capture began. They are not sent.
- Orders recorded with a size of 0: takers whose size was written down after their fills. The exchange rejects them,
  and so does not make their trades; a trade of the same maker that follows is then larger than the venue's.
- A sale at a price of 0, or a purchase at 999 999 999, is a market order. Bids at 0 (cents, rounded to dollars) and
  asks beyond the range of the instrument are far from any trade, and rejected.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from abm.exchange import Exchange
from abm.exchange.instrument import Instrument
from abm.exchange.messages import ANONYMOUS, MESSAGE, Flag, Kind, Reason, Records, Reject, Side, Status

ob_analytics = pytest.importorskip("ob_analytics", reason="ob-analytics is not installed")

LOTS_PER_COIN = 10**8
MAX_PRICE = 250_000
NS_PER_MS = 1_000_000

Fill = tuple[int, int, int, int]


@dataclass
class Replayed:
    """The sample and what the exchange made of it; `orders` has one row for each order, by its id in the sample."""

    orders: pd.DataFrame
    theirs: pd.DataFrame
    ours: pd.DataFrame
    ghosts: list[int]
    tape: Records
    outcomes: Records

    def disagreements(self) -> tuple[list[Fill], list[Fill]]:
        """Trades (maker, taker, price, lots) that only the exchange, and only the venue, made."""
        ours, theirs = (Counter(fills(trades)) for trades in (self.ours, self.theirs))
        return list((ours - theirs).elements()), list((theirs - ours).elements())


def fills(trades: pd.DataFrame) -> Iterator[Fill]:
    return trades[["maker", "taker", "price", "lots"]].itertuples(index=False, name=None)


@pytest.fixture(scope="module")
def replayed() -> Replayed:
    events = pd.read_csv(ob_analytics.sample_csv_path())
    events["lots"] = (events["volume"] * LOTS_PER_COIN).round().astype(np.int64)
    orders = life_of_orders(events)
    theirs = trades_of_the_sample()
    ghosts = traded_through(orders, theirs)
    sent = events[events["action"].isin(["created", "deleted"]) & ~events["id"].isin(ghosts)]
    tape = tape_of(sent, set(theirs["taker"]), {order: number for number, order in enumerate(orders.index, 1)})
    instrument = Instrument(name="btc-usd", kind="perpetual", tick=1, lot=1 / LOTS_PER_COIN, max_price=MAX_PRICE)
    report = Exchange([instrument]).match(tape)
    names = orders.index.to_numpy()
    ours = pd.DataFrame(
        {
            "maker": names[report.trades["maker"] - 1],
            "taker": names[report.trades["taker"] - 1],
            "price": report.trades["price"].astype(np.int64),
            "lots": report.trades["quantity"],
            "side": np.where(report.trades["aggressor"] == Side.BUY, "buy", "sell"),
        }
    )
    return Replayed(orders, theirs, ours, ghosts, tape, report.outcomes)


def life_of_orders(events: pd.DataFrame) -> pd.DataFrame:
    """Limit, size, side, first and last time, size at the end, of each order."""
    return events.groupby("id", sort=True).agg(
        limit=("price", "first"),
        lots=("lots", "first"),
        direction=("direction", "first"),
        start=("exchange_timestamp", "first"),
        end=("exchange_timestamp", "last"),
        left=("lots", "last"),
        first_action=("action", "first"),
    )


def trades_of_the_sample() -> pd.DataFrame:
    trades = pd.read_csv(ob_analytics.sample_data_dir() / "trades.csv")
    bought = trades["side"] == "buy"
    return pd.DataFrame(
        {
            "time": trades["exchange_timestamp"],
            "maker": np.where(bought, trades["sell_order_id"], trades["buy_order_id"]),
            "taker": np.where(bought, trades["buy_order_id"], trades["sell_order_id"]),
            "price": trades["price"].astype(np.int64),
            "lots": (trades["amount"] * LOTS_PER_COIN).round().astype(np.int64),
            "side": trades["side"],
        }
    )


def traded_through(orders: pd.DataFrame, trades: pd.DataFrame) -> list[int]:
    """Orders that, by the sample, rested at a better price than one the venue traded at."""
    ghosts: set[int] = set()
    makers = orders[(orders["first_action"] == "created") & ~orders.index.isin(trades["taker"])]
    for trade in trades.itertuples():
        there = makers[(makers["start"] < trade.time) & (makers["end"] > trade.time)]
        if trade.side == "buy":
            better = there[(there["direction"] == "ask") & (there["limit"] < trade.price)]
        else:
            better = there[(there["direction"] == "bid") & (there["limit"] > trade.price)]
        ghosts.update(better.index)
    return sorted(ghosts)


def tape_of(sent: pd.DataFrame, takers: set[int], numbers: dict[int, int]) -> Records:
    created = (sent["action"] == "created").to_numpy()
    tape = np.zeros(len(sent), MESSAGE)
    tape["time"] = (sent["exchange_timestamp"] - sent["exchange_timestamp"].iloc[0]) * NS_PER_MS
    asks = sent["direction"] == "ask"
    at_market = np.where(asks, sent["price"] == 0, sent["price"] >= MAX_PRICE)
    tape["kind"] = np.where(created, np.where(at_market, Kind.MARKET, Kind.LIMIT), Kind.CANCEL)
    tape["order"] = sent["id"].map(numbers)
    tape["owner"] = ANONYMOUS
    tape["side"] = np.where(asks, Side.SELL, Side.BUY)
    tape["price"] = np.where(created & ~at_market, sent["price"], 0)
    tape["quantity"] = np.where(created, sent["lots"], 0)
    tape["flags"] = np.where(created & ~sent["id"].isin(takers), Flag.POST_ONLY, Flag.NONE)
    tape["reason"] = Reason.REPLAY
    return tape


def test_every_trade_keeps_to_the_limits_of_both_sides(replayed: Replayed) -> None:
    trades, limits = replayed.ours, replayed.orders["limit"]
    assert len(trades) > 250
    maker, taker = limits.loc[trades["maker"]].to_numpy(), limits.loc[trades["taker"]].to_numpy()
    price, bought = trades["price"].to_numpy(), (trades["side"] == "buy").to_numpy()
    assert (price == maker).all(), "a trade happens at the maker's price"
    assert (price[bought] <= taker[bought]).all() and (price[~bought] >= taker[~bought]).all()
    direction = replayed.orders["direction"]
    assert (direction.loc[trades["taker"]].to_numpy() == np.where(bought, "bid", "ask")).all()
    assert (direction.loc[trades["maker"]].to_numpy() == np.where(bought, "ask", "bid")).all()


def test_no_order_trades_more_than_its_size(replayed: Replayed) -> None:
    trades = replayed.ours
    assert (trades["lots"] > 0).all()
    traded = trades.groupby("maker")["lots"].sum().add(trades.groupby("taker")["lots"].sum(), fill_value=0)
    assert (traded <= replayed.orders["lots"].loc[traded.index]).all()


def test_takers_work_through_the_book_from_the_best_price(replayed: Replayed) -> None:
    for _, sweep in replayed.ours.groupby("taker", sort=False):
        ahead = sweep["price"].to_numpy() * (1 if sweep["side"].iloc[0] == "buy" else -1)
        assert (np.diff(ahead) >= 0).all()


def test_trades_are_the_venues_own(replayed: Replayed) -> None:
    only_ours, only_theirs = replayed.disagreements()
    assert len(replayed.theirs) == 284
    assert (len(replayed.ours), len(only_ours), len(only_theirs)) == (282, 1, 3)
    agreed = replayed.theirs[~pd.Series(list(fills(replayed.theirs))).isin(only_theirs)]
    same = replayed.ours[~pd.Series(list(fills(replayed.ours))).isin(only_ours)]
    assert list(fills(agreed)) == list(fills(same)), "281 trades, in the venue's sequence"


def test_what_disagrees_comes_from_takers_without_a_size(replayed: Replayed) -> None:
    sizeless = replayed.orders[replayed.orders["lots"].eq(0) & replayed.orders["first_action"].eq("created")]
    assert len(sizeless) == 2
    missing = replayed.theirs[replayed.theirs["taker"].isin(sizeless.index)].groupby("maker")["lots"].sum()
    only_ours, only_theirs = replayed.disagreements()
    assert {maker for maker, *_ in only_ours + only_theirs} == set(missing.index)
    for maker, lots in missing.items():
        short = sum(fill[3] for fill in only_theirs if fill[0] == maker) - sum(
            fill[3] for fill in only_ours if fill[0] == maker
        )
        assert 0 <= short <= lots, "the maker is filled less by at most what those takers took"


def test_ghosts_are_of_the_snapshot_and_rest_to_the_end(replayed: Replayed) -> None:
    ghosts = replayed.orders.loc[replayed.ghosts]
    assert len(ghosts) == 2
    assert (ghosts["start"] == replayed.orders["start"].min()).all() and (
        ghosts["end"] == replayed.orders["end"].max()
    ).all()


def test_orders_kept_out_of_the_book_never_made_a_trade(replayed: Replayed) -> None:
    """Were the exchange's best prices wrong, some of the orders it turned away would have traded at the venue."""
    turned_away = replayed.tape["order"][replayed.outcomes["reject"] == Reject.WOULD_TRADE]
    ids = replayed.orders.index[turned_away - 1]
    assert len(ids) == 100_518
    assert not set(ids) & (set(replayed.theirs["maker"]) | set(replayed.theirs["taker"]))
    rows = replayed.orders.loc[ids]
    whole = rows["lots"] == rows["left"]
    at_once = rows["end"] - rows["start"] <= 1_000
    assert whole.mean() > 0.999 and at_once.mean() > 0.99


def test_what_is_left_of_cancelled_orders_is_what_the_venue_says(replayed: Replayed) -> None:
    done = (replayed.tape["kind"] == Kind.CANCEL) & (replayed.outcomes["status"] == Status.DONE)
    cancelled = replayed.orders.loc[replayed.orders.index[replayed.tape["order"][done] - 1]]
    traded = (
        replayed.ours.groupby("maker")["lots"].sum().add(replayed.ours.groupby("taker")["lots"].sum(), fill_value=0)
    )
    left = cancelled["lots"] - traded.reindex(cancelled.index, fill_value=0)
    assert len(cancelled) > 55_000
    only_ours, only_theirs = replayed.disagreements()
    different = set(cancelled.index[left != cancelled["left"]])
    touched = {order for fill in only_ours + only_theirs for order in fill[:2]}
    assert len(different) == 2 and different <= touched


def test_other_rejections_are_the_explained_ones(replayed: Replayed) -> None:
    orders = replayed.tape["kind"] != Kind.CANCEL
    reasons = Counter(Reject(int(reject)).name for reject in replayed.outcomes["reject"][orders])
    limit, bids = replayed.orders["limit"], replayed.orders["direction"] == "bid"
    beyond = np.where(bids, limit == 0, limit >= MAX_PRICE) & (replayed.orders["first_action"] == "created")
    assert reasons["BAD_PRICE"] == beyond.sum()
    assert reasons["BAD_QUANTITY"] == 2
    assert set(reasons) == {"NONE", "WOULD_TRADE", "BAD_PRICE", "BAD_QUANTITY"}
