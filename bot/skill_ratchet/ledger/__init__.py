"""The record of experiments and traces, kept on two branches of the user's repository."""

from __future__ import annotations

from skill_ratchet.ledger.ledger import Ledger, PastAttempt, TrainLedger
from skill_ratchet.ledger.locks import RunLock
from skill_ratchet.ledger.store import Reader, Ref, Store

__all__ = ["Ledger", "PastAttempt", "Reader", "Ref", "RunLock", "Store", "TrainLedger"]
