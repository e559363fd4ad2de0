from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

import processes
from MLTools.NanoML.terminal.progress import progress, say
from processes import on_screen, on_terminal

SHOW = """
from MLTools.NanoML.terminal import progress as module
from MLTools.NanoML.terminal.progress import progress
module._SHORT = 3600
with progress("skim", 3, "files") as bar:
    for _ in range(3):
        with progress("one of them", 7) as part:
            part.advance(7)
        bar.advance(1, note="half way")
"""


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("skim", 1000) as bar:
        bar.advance(400)
        bar.advance(600, note="fine")
    say("done")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[-1] == "done"
    assert shown.err.startswith("skim: 1,000 events (fine) in 0.")


@pytest.mark.parametrize(("total", "begun"), [(345, "58"), (0, "100")])
def test_progress_of_data_is_in_per_cent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, total: int, begun: str
) -> None:
    """No line tells how many events there are, not even that there are none."""
    monkeypatch.setattr("MLTools.NanoML.terminal.progress._EVERY", 0.0)
    with progress("fill", total, is_share=True) as bar:
        for part in (200, 145) if total else (0,):
            bar.advance(part)
    lines = capsys.readouterr().err.splitlines()
    assert f"fill: {begun} of 100 %" in lines
    assert lines[-1].startswith("fill: 100 % in 0.")


def test_no_control_character_reaches_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("branch \x1b[2J\x9b0m\r of\ta\nfile")
    assert capsys.readouterr().err == "branch ?[2J?0m? of\ta\nfile\n"


def test_parts_of_a_long_work_leave_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("skim", 2, "files") as bar:
        for name in ("a", "b"):
            with progress(f"skim {name}", 1000) as part:
                part.advance(1000)
            bar.advance()
    with progress("convert", 2000) as bar:
        bar.advance(2000)
    assert [line.partition(" in ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "skim: 2 files",
        "convert: 2,000 events",
    ]


@pytest.mark.parametrize("columns", [80, 120])
def test_a_bar_on_a_terminal(columns: int) -> None:
    sent = on_terminal([sys.executable, "-c", SHOW], columns)
    assert "one of them" not in sent
    (line,) = filter(None, on_screen(sent).splitlines())
    assert re.fullmatch(f"skim {'━' * 30} 3/3 files  half way, [0-9]+ s", line)


ENDS = """
from MLTools.NanoML.terminal.progress import progress, say
PATH = "/eos/cms/" + 20 * "WZTo3LNu/" + "0.root"
with progress("fold 1 of 5", 200, "epochs") as bar:
    bar.advance(71, note="validation 0.4968, best epoch 51")
    say(f"{PATH}: could not be read, and is left out; the others are read, and the run goes on with them.")
    bar.advance(0, note="stopped at epoch 71, best 51")
with progress("skim", 9, "files") as bar:
    bar.advance(9)
    bar.has_failed = True
with progress("fill", 9, "files") as bar:
    bar.advance(4)
    raise KeyError
"""


@pytest.mark.parametrize("columns", [80, 120])
def test_success_is_green_and_full_also_if_it_comes_early_and_failure_red(columns: int) -> None:
    sent = on_terminal([sys.executable, "-c", ENDS], columns)
    assert any(line.startswith("/eos/") and line.endswith("/0.root:") for line in on_screen(sent).splitlines())
    for name, colour, length, end in (
        ("fold 1 of 5", 32, 20 if columns == 80 else 30, "71/71 epochs  stopped at epoch 71, best 51, [0-9]+ s"),
        ("skim", 31, 30, "9/9 files  [0-9]+ s"),
        ("fill", 31, 13, ".* 4/9 files"),
    ):
        *_, last = (line for line in re.split("[\r\n]", sent) if re.search(f"^(\x1b\\[2K)*{name} ", line))
        assert re.search(f"{name} \x1b\\[{colour}m━{{{length}}}\x1b", last)
        assert re.search(end, on_screen(last))


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_terminal_without_colours_or_without_control(environment: dict[str, str]) -> None:
    sent = on_terminal([sys.executable, "-c", ENDS], 80, **environment)
    assert not re.search(r"\x1b\[[0-9;]+m", sent.partition("Traceback")[0])
    if environment == {"TERM": "dumb"}:
        assert "\x1b" not in sent.partition("Traceback")[0]
        assert re.search(r"^fold 1 of 5: 71 epochs \(stopped at epoch 71, best 51\) in [0-9.]+ s$", sent, re.M)


def test_workers_are_silent() -> None:
    code = "from MLTools.NanoML.terminal.progress import silence; silence()" + SHOW
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stderr == b""


# an object that is collected drops the exception; the work must end nevertheless
LOST = """
import os, signal, sys
from MLTools.NanoML.terminal.progress import heed_signal, progress

class Dropping:
    def __del__(self):
        os.kill(os.getpid(), signal.NUMBER)
        for _ in range(1000):
            pass

heed_signal(signal.SIGINT, KeyboardInterrupt)
heed_signal(signal.SIGTERM, lambda: SystemExit(143))
thing = Dropping()
del thing
print("went on", flush=True)
with progress("work", 2) as bar:
    bar.advance()
print("never")
"""


@pytest.mark.parametrize(
    ("number", "before", "ends"),
    [
        (signal.SIGINT, signal.SIG_DFL, "KeyboardInterrupt"),
        (signal.SIGINT, signal.SIG_IGN, None),
        (signal.SIGTERM, signal.SIG_DFL, ""),
    ],
)
def test_a_signal_that_python_drops_still_ends_the_work(
    number: signal.Signals, before: signal.Handlers, ends: str | None
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOST.replace("NUMBER", number.name)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(number, before),
    )
    assert done.stdout.splitlines() == (["went on", "never"] if ends is None else ["went on"])
    assert done.stderr.strip().endswith(ends or "")
    assert done.stderr.count("Traceback") == bool(ends)  # none of what Python drops
    if number == signal.SIGTERM:
        assert done.returncode == 143


COMPUTING = """
import hashlib
from MLTools.NanoML.terminal import progress
progress._GRACE = 0.2
progress.end_at_sigterm()
print("computes", flush=True)
hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2_000_000_000)
"""


def test_sigterm_ends_a_process_while_a_library_computes() -> None:
    with processes.running([sys.executable, "-c", COMPUTING], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait(timeout=60) == 143
