"""Clearing: whose cash and coins are whose, and the proof that none came from nowhere. No Mesa here."""

from abm.clearing.ledger import Audit, Ledger

__all__ = ["Audit", "Ledger"]
