from __future__ import annotations

import numpy as np

from MLTools.NanoML.nanoaod.folds import fold_of


def test_the_rule_is_fixed_for_all_time() -> None:
    # scores of models that exist depend on these numbers
    events = np.arange(8, dtype=np.uint64) * 1_000_003
    assert (
        fold_of(np.full(8, 1), np.arange(8), events, 5).tolist()
        == fold_of([1] * 8, list(range(8)), events.tolist(), 5).tolist()
    )
    assert fold_of(1, 11001, 2200003, 5).tolist() == [_by_hand(1, 11001, 2200003, 5)]
    assert fold_of(359571, 42, 2**63 + 5, 7).tolist() == [_by_hand(359571, 42, 2**63 + 5, 7)]


def _by_hand(run: int, block: int, event: int, k: int) -> int:
    mask = 2**64 - 1

    def mix(x: int) -> int:
        x = (x + 0x9E3779B97F4A7C15) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    return mix((mix((mix(run) + block) & mask) + event) & mask) % k


def test_folds_have_equal_shares_also_of_consecutive_events() -> None:
    fold = fold_of(np.ones(100_000, np.uint32), np.arange(100_000) // 100, np.arange(100_000), 5)
    shares = np.bincount(fold, minlength=5) / len(fold)
    assert np.abs(shares - 0.2).max() < 0.005  # 4 standard deviations of a fair draw


def test_integer_types_do_not_matter() -> None:
    columns = [np.array([1, 2, 3]), np.array([4, 5, 6]), np.array([7, 8, 9])]
    expected = fold_of(*columns, 5)
    for dtype in (np.uint32, np.int64, np.uint64):
        assert (fold_of(*(column.astype(dtype) for column in columns), 5) == expected).all()
