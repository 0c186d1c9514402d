"""The forge: what is read on GitHub, decided about, and written there."""
