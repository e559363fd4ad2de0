"""Requests bring every piece, and hardly anything else."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from MLTools.NanoML.rootio.remote import requests
from MLTools.NanoML.rootio.remote.client import ServerError
from MLTools.NanoML.rootio.remote.requests import Request, requests_for, send_some

CONTENT = bytes(number * number % 251 for number in range(10_000))
GOOD, BAD = (SimpleNamespace(ok=ok, code=code, errno=0, message="lost") for ok, code in ((True, 0), (False, 1)))


class File:
    """The client's: it answers when `answer` is called."""

    def __init__(self) -> None:
        self.asked: list[list[tuple[int, int]]] = []
        self._answers: list[Callable[[Any], None]] = []

    def read(self, start: int, length: int, timeout: int, callback: Callable[..., None]) -> Any:
        self.asked.append([(start, length)])
        content = CONTENT[start : start + length]
        self._answers.append(lambda status: callback(status, content, None))
        return GOOD

    def vector_read(self, parts: list[tuple[int, int]], timeout: int, callback: Callable[..., None]) -> Any:
        self.asked.append(parts)
        chunks = [SimpleNamespace(buffer=CONTENT[start : start + length]) for start, length in parts]
        self._answers.append(lambda status: callback(status, chunks, None))
        return GOOD

    def answer(self, status: Any = GOOD) -> None:
        while self._answers:
            self._answers.pop(0)(status)


@pytest.fixture(autouse=True, scope="module")
def small() -> Any:
    """Limits that suit a small file."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"_GAP": 10, "_LARGEST": 200, "_MOST": 5, "_REQUEST": 500, "_WINDOW": 1000}.items():
            patch.setattr(requests, name, value)
        yield


@given(st.lists(st.tuples(st.integers(0, 9_000), st.integers(0, 900)), max_size=60))
def test_every_piece_comes(pieces: list[tuple[int, int]]) -> None:
    found = requests_for(pieces, 1)
    file = File()
    every = list(dict.fromkeys(part.request for parts in found.values() for part in parts))
    for request in every:
        request.send(file)
        file.answer()
        request.receive(file)
    for start, length in pieces:
        assert b"".join(part.content for part in found[start, length]) == CONTENT[start : start + length]
    needed = {at for start, length in pieces for at in range(start, start + length)}
    moved = [at for parts in file.asked for start, length in parts for at in range(start, start + length)]
    assert len(moved) == len(set(moved))
    assert needed <= set(moved)
    assert len(moved) - len(needed) <= 10 * len(pieces)
    for parts in file.asked:
        assert len(parts) == 1 or (len(parts) <= 5 and all(length <= 200 for _, length in parts))
        assert sum(length for _, length in parts) <= 500


def test_what_is_under_way_is_limited() -> None:
    every, file = [Request([(start, 400)], 1) for start in range(0, 4000, 400)], File()
    send_some(every, file)
    assert file.asked == [[(0, 400)], [(400, 400)]]
    send_some(every, file)
    assert len(file.asked) == 2
    file.answer()
    send_some(every, file)
    assert file.asked[2:] == [[(800, 400)], [(1200, 400)]]


def test_whoever_asked_is_told_of_what_has_come_and_of_no_failure() -> None:
    every, file = [Request([(start, 400)], 1) for start in range(0, 2000, 400)], File()

    def more(asked: Any) -> None:
        send_some(every, asked, more)

    send_some(every, file, more)
    file.answer()  # each answer lets one more be sent
    assert file.asked == [request.parts for request in every]
    for request in every:
        request.receive(file)
    every = [Request([(start, 400)], 1) for start in range(0, 2000, 400)]
    send_some(every, file, more)
    file.answer(BAD)
    assert len(file.asked) == 7


def test_another_server_is_asked_for_what_the_first_did_not_give() -> None:
    done, failed, hanging = every = [Request([(start, 400)], 1) for start in (0, 400, 800)]
    first, second = File(), File()
    done.send(first)
    first.answer()
    failed.send(first)
    first.answer(BAD)
    hanging.send(first)
    with pytest.raises(ServerError, match="lost"):
        failed.receive(first)
    send_some(every, second)
    assert second.asked == [[(400, 400)], [(800, 400)]]
    second.answer()
    for request in every:
        request.receive(second)
        assert request.content == [CONTENT[request.parts[0][0] :][:400]]


def test_less_than_was_asked_for_is_an_error() -> None:
    request, file = Request([(9_900, 400)], 1), File()
    request.send(file)
    file.answer()
    with pytest.raises(ServerError, match="fewer bytes arrived"):
        request.receive(file)
