"""Publishes an analysis: a directory by which others reproduce its results, and ask what they say of another signal."""

PAGE = "howto/publish.md"
