from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import uproot

from data_processing import deflate
from data_processing.deflate import Zlib, fast_deflate
from data_processing.nanowriter import NanoWriter
from MLTools.NanoML.rootfile import Branch

CONTENT = np.random.default_rng(1).normal(50, 20, 100_000).astype(">f4").tobytes()


def test_without_isal_zlib_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflate, "isal_zlib", None)
    assert fast_deflate(CONTENT, 1) is None
    assert Zlib(5).compress(CONTENT) == zlib.compress(CONTENT, 5)


@pytest.mark.parametrize("level", [1, 5, 6, 9])
def test_zlib_inflates_what_either_has_deflated(level: int) -> None:
    pytest.importorskip("isal")
    made = Zlib(level).compress(CONTENT)
    assert zlib.decompress(made) == CONTENT
    assert (made == zlib.compress(CONTENT, level)) is (level > 5)
    assert len(made) < 1.03 * len(zlib.compress(CONTENT, 5))
    assert all(Zlib(level).compress(memoryview(CONTENT)) == made for _ in range(20))


def test_files_are_written_by_it(tmp_path: Path) -> None:
    pytest.importorskip("isal")
    branches = {"x": Branch("x", "float32", "flat", "", None, "")}
    values = np.frombuffer(CONTENT, ">f4").astype(np.float32)
    with NanoWriter(tmp_path / "a.root", branches, "ZLIB:5") as writer:
        writer.events.extend({"x": values})
        writer.finish()
    assert fast_deflate(values.astype(">f4").tobytes(), 2) in (tmp_path / "a.root").read_bytes()
    with uproot.open(tmp_path / "a.root") as file:
        assert file["Events/x"].array().tolist() == values.tolist()
