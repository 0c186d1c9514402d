"""A run: the loop from a failing case to a verdict, and everything it takes."""
