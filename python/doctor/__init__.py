"""Checks here and now what a way of working needs."""
