"""Traders: who is in the market and why they send orders. One file for each kind; importing this package registers them all."""

from abm.agents import etf, holders, market_makers, miners, noise, retail, value
from abm.agents.base import Population, Trader, TraderConfig, kinds, trader

__all__ = [
    "Population",
    "Trader",
    "TraderConfig",
    "etf",
    "holders",
    "kinds",
    "market_makers",
    "miners",
    "noise",
    "retail",
    "trader",
    "value",
]
