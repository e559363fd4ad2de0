"""Reading over XRootD, near and far, against reading the same file from disk.

    python bench/xrootd.py [--events 100000] [--delay 50]

A server is started on this machine; a far one is the same behind a relay that delays all bytes, by half of --delay each
way. Sides: the skim of bench/skim.py, from disk and from the server; and uproot reading what that skim reads and keeps.
Each is a process of its own, and they take turns; what is compared is the time that passes. Needs xrootd
(Debian package xrootd-server).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from common import CHECKOUT, KEEP, READ, SELECTION, Took, in_turns, make_input, parser, read_with_uproot

from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.config.datasets import Read
from MLTools.NanoML.rootio.remote.client import use_settings
from MLTools.NanoML.rootio.remote.server import Url
from MLTools.NanoML.terminal.progress import silence

sys.path.append(str(CHECKOUT / "test"))

from services.daemons import free_port, listens, wait_for
from services.xrootd import Storage

BLOCK = 1 << 16


def nanoml(source: str, output: Path) -> None:
    """Our skim."""
    skim_file(SkimJob(source, output, SELECTION, keep=KEEP, compression="ZSTD:5"))


def read(source: str, _output: Path) -> None:
    """Uproot reads what our skim reads and keeps."""
    read_with_uproot(source, READ)


SIDES: dict[str, Callable[[str, Path], None]] = {"nanoml": nanoml, "uproot": read}


def only(side: str, source: str) -> None:
    """One side, in this process; importing is not counted."""
    silence()
    use_settings(Read(redirectors=["root://127.0.0.1/"]))
    with tempfile.TemporaryDirectory() as directory:
        Took.by(lambda: SIDES[side](source, Path(directory, "out.root"))).tell()


async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, delay: float) -> None:
    """Pass bytes on, each some time after it came, however many are on their way."""
    loop = asyncio.get_running_loop()
    while block := await source.read(BLOCK):
        loop.call_later(delay, target.write, block)
    loop.call_later(delay, target.close)


def relay(port: int, target: int, delay: float) -> None:
    """Take connections at one port, and pass them on to another."""

    async def connected(source: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        answers, out = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(carry(source, out, delay), carry(answers, back, delay))

    async def serve() -> None:
        async with await asyncio.start_server(connected, "127.0.0.1", port) as server:
            await server.serve_forever()

    asyncio.run(serve())


@contextmanager
def places(source: Path, delay: float) -> Iterator[dict[str, str]]:
    """The file on disk, on a server, and on that server from afar."""
    server = Storage()
    far = free_port()
    near = int(Url.parse(server.url).host.partition(":")[2])
    relaying = multiprocessing.get_context("fork").Process(target=relay, args=(far, near, delay / 2))
    try:
        server.start()
        shutil.copyfile(source, server.directory / "in.root")
        relaying.start()
        wait_for(lambda: listens(far), "relay", 10)
        yield {
            "disk": str(source),
            "server": f"root://127.0.0.1:{near}//in.root",
            f"server, {delay * 1000:.0f} ms away": f"root://127.0.0.1:{far}//in.root",
        }
    finally:
        relaying.terminate()
        relaying.join()
        server.close()


def compare(source: Path, delay: float) -> None:
    """Measure all sides three times in turn, and print the least time of each."""
    sys.stdout.write(f"{source.stat().st_size / 1e6:.0f} MB\n")
    with places(source, delay) as found:
        sides = {(side, place): (side, url) for place, url in found.items() for side in SIDES}
        best = in_turns(__file__, sides, by="time")
    for (side, place), took in best.items():
        ratio = took.time / best[side, "disk"].time
        sys.stdout.write(f"  {side:8} {place:20} {took.time:7.2f} s  {ratio:6.2f} times from disk\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all sides, and print them."""
    options_of = parser(__doc__)
    options_of.add_argument("--events", type=int, default=100_000)
    options_of.add_argument("--compression", default="LZMA:9", help="of the input")
    options_of.add_argument("--delay", type=float, default=50, help="of the far server, there and back [ms]")
    options_of.add_argument("--input", type=Path, help="read this file, and make none")
    options = options_of.parse_args(arguments)
    if options.only:
        only(*options.only)
        return
    with tempfile.TemporaryDirectory() as directory:
        source = options.input or Path(directory, "in.root")
        if options.input is None:
            make_input(source, options.events, options.compression)
        compare(source, options.delay / 1000)


if __name__ == "__main__":
    main()
