"""Ratchet improves an agent's skill file by experiment and keeps only edits that help."""

__version__ = "0.1.0"
