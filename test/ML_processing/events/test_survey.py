"""What is counted while events are read, reported before a training begins, and used to split them."""

from __future__ import annotations
