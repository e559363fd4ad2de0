"""The moves of a result: two states of an analysis, what differs between them, and how far each difference moves what is expected."""

PAGE = "howto/fit.md"
