"""How the data set grows: corrections, imports, and what becomes of each case."""
