from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.rootio import compression
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.compression import Zlib, compression_of, fast_deflate
from MLTools.NanoML.rootio.nanowriter import NanoWriter

CONTENT = np.random.default_rng(1).normal(50, 20, 100_000).astype(">f4").tobytes()


def test_without_isal_zlib_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "isal_zlib", None)
    assert fast_deflate(CONTENT, 1) is None
    assert Zlib(5).compress(CONTENT) == zlib.compress(CONTENT, 5)


@pytest.mark.parametrize("level", [1, 5, 6, 9])
def test_zlib_inflates_what_either_has_deflated(level: int) -> None:
    pytest.importorskip("isal")
    made = Zlib(level).compress(CONTENT)
    assert zlib.decompress(made) == CONTENT
    assert (made == zlib.compress(CONTENT, level)) is (level > 5)
    assert len(made) < 1.03 * len(zlib.compress(CONTENT, 5))
    assert zlib.decompress(Zlib(level).compress(memoryview(CONTENT))) == CONTENT


def test_blocks_of_many_threads_are_inflated_to_what_they_were() -> None:
    pytest.importorskip("isal")
    contents = [np.random.default_rng(seed).normal(50, 20, 50_000).astype(">f4").tobytes() for seed in range(8)]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(4):
            made = threads.map(lambda content: fast_deflate(content, 1), contents)
            assert [zlib.decompress(each or b"") for each in made] == contents


def test_files_are_written_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("isal")
    levels = []

    def recorded(content: Any, level: int) -> bytes | None:
        levels.append(level)
        return fast_deflate(content, level)

    monkeypatch.setattr(compression, "fast_deflate", recorded)
    branches = {"x": Branch("x", "float32", "flat", "", None, "")}
    values = np.frombuffer(CONTENT, ">f4").astype(np.float32)
    with NanoWriter(tmp_path / "a.root", branches, "ZLIB:5") as writer:
        writer.events.extend({"x": values})
        writer.finish()
    assert set(levels) == {2}
    with uproot.open(tmp_path / "a.root") as file:
        assert file["Events/x"].array().tolist() == values.tolist()


@pytest.mark.parametrize("text", ["ZIP:5", "ZLIB", "ZLIB:five", "ZLIB:50", ""])
def test_a_compression_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="ALGORITHM:LEVEL"):
        compression_of(text)
