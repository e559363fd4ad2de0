"""A long wire between programs on one machine: bytes arrive late, and only so many in a second.

All connections share the wire, which is as good as a wire can be: nothing is lost, and it is at its full rate from the first byte.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BLOCK = 1 << 17  # bytes
SLACK = 0.05  # s; bytes are taken so long before the wire is free for them, as a router has some memory


class Direction:
    """One direction of the wire, which all connections use; rate in bytes a second, delay in seconds."""

    def __init__(self, rate: float, delay: float, carried: Any) -> None:
        self._rate, self._delay, self._carried = rate, delay, carried
        self._free = 0.0  # when all bytes that were taken are on the wire

    async def carry(self, source: socket.socket, target: socket.socket) -> None:
        """Pass on what comes from one socket until it is closed."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivery = asyncio.create_task(self._deliver(under_way, target))
        block = b"-"
        while block:
            try:
                block = await loop.sock_recv(source, BLOCK)
            except ConnectionError:
                block = b""
            self._free = max(self._free, loop.time()) + len(block) / self._rate
            self._carried.value += len(block)
            under_way.put_nowait((self._free + self._delay, block))
            await asyncio.sleep(self._free - SLACK - loop.time())
        await delivery

    async def _deliver(self, under_way: asyncio.Queue[tuple[float, bytes]], target: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            when, block = await under_way.get()
            await asyncio.sleep(when - loop.time())
            try:
                if not block:
                    target.shutdown(socket.SHUT_WR)
                    return
                await loop.sock_sendall(target, block)
            except OSError:  # nobody wants it any more
                return


def relay(listening: socket.socket, target: int, there: Direction, back: Direction) -> None:
    """Take connections, and pass them on to another port of this machine."""

    async def connected(source: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with source, socket.socket() as server:
            for each in (source, server):
                each.setblocking(False)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(server, ("127.0.0.1", target))
            await asyncio.gather(there.carry(source, server), back.carry(server, source))

    async def serve() -> None:
        listening.setblocking(False)
        connections = set()
        while True:
            source, _ = await asyncio.get_running_loop().sock_accept(listening)
            connections.add(asyncio.create_task(connected(source)))

    asyncio.run(serve())


@contextmanager
def wire(port: int, rate: float, round_trip: float) -> Iterator[tuple[int, Any]]:
    """A wire to a port of this machine [bytes/s, s]: the port of its near end, and how many bytes have come by it, as `.value`."""
    fork = multiprocessing.get_context("fork")
    come = fork.Value("q", lock=False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        directions = [Direction(rate, round_trip / 2, carried) for carried in (fork.Value("q", lock=False), come)]
        process = fork.Process(target=relay, args=(listening, port, *directions), daemon=True)
        process.start()
        try:
            yield listening.getsockname()[1], come
        finally:
            process.terminate()
            process.join()
