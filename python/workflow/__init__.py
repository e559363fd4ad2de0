"""Stages and their tasks: what is out of date, and running it."""
