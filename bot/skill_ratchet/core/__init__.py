"""Pure decisions: no file, network, clock, environment or randomness of their own."""
