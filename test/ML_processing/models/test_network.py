"""Networks on inputs as they are in the files: their scaling, and those of all folds as one."""

from __future__ import annotations
