"""Which events a network learns from, with what weights, and with what values of its parameter."""

from __future__ import annotations
