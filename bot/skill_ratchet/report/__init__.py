"""Looking back at what is on record."""
