"""The record of experiments and traces, kept on two branches of the user's repository."""

from __future__ import annotations

from bot.ledger.locks import RunLock
from bot.ledger.store import Reader, Ref, Store
from bot.ledger.typed import Attempt, Ledger, TrainLedger

__all__ = ["Attempt", "Ledger", "Reader", "Ref", "RunLock", "Store", "TrainLedger"]
