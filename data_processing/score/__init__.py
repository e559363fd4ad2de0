"""Scores, and other columns, as branches of ROOT files."""

PAGE = "scores.md"
