"""`nanoml` in processes that are forked from one which has imported PyTorch and all else: that takes longer than most commands."""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path

__all__ = ["ForkedCommands"]

MODULES = (
    *("MLTools.NanoML.commands.pipeline", "data_processing.skim.skim", "data_processing.convert.convert"),
    *("data_processing.score.score", "ML_processing.training.train", "ML_processing.evaluation.report"),
    "ML_processing.export.export",
    *("jsonschema", "lightgbm", "torch._dynamo"),  # the last one by the first optimizer
)
CLIENT = """\
#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"0"], [0, 1, 2])
    server.sendall(json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    sys.exit(int(server.recv(16)))
"""


class ForkedCommands:
    """A directory for PATH with a program `nanoml`, which ends, prints and reads as always; its figures are white."""

    def __init__(self, directory: Path) -> None:
        address = str(directory / "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen()
            number = listener.fileno()
            line = [sys.executable, __file__, str(number)]
            white = {**os.environ, "NANOML_TEST_WHITE_FIGURES": "1"}
            self._server = subprocess.Popen(line, env=white, stdin=subprocess.PIPE, pass_fds=[number])
        program = directory / "nanoml"
        program.write_text(CLIENT.format(python=sys.executable, address=address))
        program.chmod(0o755)

    def stop(self) -> None:
        self._server.communicate()


def fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads: they are those of OpenBLAS, which expects a fork
        return os.fork()


def serve(listener: socket.socket) -> None:
    """Fork for each command, until standard input ends; return in the process that is to become it."""
    for name in MODULES:
        with suppress(ImportError):  # a part, or what it needs, is not here
            importlib.import_module(name)
    while True:
        if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
            sys.exit()
        connection, _ = listener.accept()
        if not fork():
            break
        connection.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    listener.close()
    _, streams, *_ = socket.recv_fds(connection, 1, 3)
    with connection.makefile() as request:
        words, directory, environment = json.load(request)
    command = fork()
    if command:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        connection.sendall(str(os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])).encode())
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words


if __name__ == "__main__":
    sys.path[0] = str(Path(sys.executable).parent)  # as of the program
    serve(socket.socket(fileno=int(sys.argv[1])))
    from MLTools.NanoML.cli import main

    main()
