"""The same file by two names, and copies, in lists of any length."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from data_processing.datasets.datasets import output_names, resolve_datasets
from data_processing.datasets.files import _content, _head, _samples, find_same
from MLTools.NanoML.config.load import load

MANY = 20_000


def test_many_files_of_one_size_are_told_apart_by_their_beginnings(tmp_path: Path) -> None:
    files = []
    for number in range(500):
        path = tmp_path / f"{number}.root"
        path.write_bytes(number.to_bytes(8, "big") + bytes(2000))
        files.append(str(path))
    assert find_same(files) is None
    (tmp_path / "copy.root").write_bytes((tmp_path / "123.root").read_bytes())
    assert find_same([*files, str(tmp_path / "copy.root")]) == (123, 500)


def test_files_are_read_once_and_only_as_far_as_it_takes_to_tell_them_apart(tmp_path: Path) -> None:
    def make(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    alike = [make(f"alike{n}", bytes(9500) + n.to_bytes(2, "big") + bytes(5499)) for n in range(300)]
    ends = [make(f"end{n}", bytes(20_000) + bytes([n])) for n in range(3)]
    beginnings = [make(f"beginning{n}", bytes([n]) + bytes(30_000)) for n in range(3)]
    sizes = [make(f"size{n}", bytes(40_000 + n)) for n in range(3)]
    for digest in (_head, _samples, _content):
        digest.cache_clear()
    for _ in range(2):
        assert find_same([*alike, *ends, *beginnings, *sizes]) is None
        read = [digest.cache_info().misses for digest in (_head, _samples, _content)]
        assert read == [306, 303, 300]
    make("alike7", (tmp_path / "alike8").read_bytes())
    assert find_same(alike) == (7, 8)
    make("alike7", bytes(15_001))
    assert find_same(alike) == (0, 7)


def test_what_cannot_be_looked_at_is_left_to_who_reads_it(tmp_path: Path) -> None:
    (tmp_path / "link.root").symlink_to("nowhere")
    (tmp_path / "empty.root").touch()
    (tmp_path / "also empty.root").touch()
    os.mkfifo(tmp_path / "pipe.root")
    names = ("link.root", "empty.root", "also empty.root", "pipe.root", "missing.root")
    assert find_same([str(tmp_path / name) for name in names]) is None
    assert find_same([str(tmp_path / "link.root"), str(tmp_path / "nowhere")]) == (0, 1)


@pytest.mark.exhaustive("speed with tens of thousands of files")
def test_20_000_urls_take_a_second(tmp_path: Path) -> None:
    names = (f"/store/mc/Run/A{number % 7}/NANOAODSIM/v1/{number // 1000}/{number:08X}.root" for number in range(MANY))
    (tmp_path / "all.txt").write_text("\n".join(names))
    (tmp_path / "a.yaml").write_text("datasets: {a: {files: all.txt}}\n")
    check_quick(tmp_path / "a.yaml")


@pytest.mark.exhaustive("speed with tens of thousands of files")
def test_5_000_local_files_take_a_second(tmp_path: Path) -> None:
    for number in range(MANY // 4):
        if number % 1000 == 0:
            directory = tmp_path / f"{number:06d}"
            directory.mkdir()
        with open(directory / f"{number}.root", "wb") as file:
            file.write(number.to_bytes(4, "big"))
            file.truncate(1000 + number % 5000)
    (tmp_path / "a.yaml").write_text("datasets: {a: {files: '*/*.root'}}\n")
    check_quick(tmp_path / "a.yaml", MANY // 4)


def check_quick(path: Path, number: int = MANY) -> None:
    start = time.process_time()
    files = resolve_datasets(load(path))["a"]
    names = output_names(files)
    assert time.process_time() - start < 1e-4 * number  # a fifth of it on a quiet machine
    assert len(set(names.values())) == len(files) == number
