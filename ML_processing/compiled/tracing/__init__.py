"""Arrays that record what a selection does with them, as nodes of a graph."""
