from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import processes
from MLTools.NanoML.terminal.progress import progress, say, wrapped
from processes import nanoml, on_screen, on_terminal

NANOML = [sys.executable, "-m", "MLTools.NanoML.cli"]
LONG = "/eos/cms/store/group/phys/analysis/skims/" + "WZTo3LNu_TuneCP5_13TeV-amcatnloFXFX-pythia8/" * 2 + "0.root"
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


def test_lines_are_broken_between_words_and_what_follows_is_indented() -> None:
    text = "  the first words of a line that is too long\nshort"
    assert wrapped(text, 20).splitlines() == ["  the first words of", "    a line that is", "    too long", "short"]
    assert wrapped(text, 20, 8).splitlines()[1] == "        a line that"
    assert wrapped(text, None) == text
    # words after a command may stand on the next line
    text = "The jobs have ended. nanoml status shows what is done, nanoml resubmit continues with the others."
    assert wrapped(text, 40).startswith("The jobs have ended. nanoml status shows\n  what is done, nanoml resubmit\n")


@pytest.mark.parametrize(
    "piece",
    [
        LONG,
        *("nanoml resubmit --max-missing-files 1%", "nanoml submit skim --on crab"),
        *("cd 'my analysis' && nanoml run analysis.yaml", "`nanoml run analysis.yaml --from train`"),
        *("pip install -e .[train]", "export X509_USER_PROXY=~/.globus/x509up_u1000", '"blind: {regions: [SR, CR]}"'),
        "nanoml datasets '/DYJets*/* NANO'",
    ],
)
def test_no_path_and_no_command_is_broken(piece: str) -> None:
    for before in range(0, 60, 3):
        text = f"{'x ' * (before // 2)}{'y' * (before % 2)}: {piece}, or something else. Some more words follow here."
        lines = wrapped(text, 60).splitlines()
        assert any(piece in line for line in lines)
        assert all(len(line) <= 60 or piece in line for line in lines)
        assert " ".join(line.strip() for line in lines).split() == text.split()


@pytest.mark.parametrize(
    ("words", "columns"), [(["--help"], 80), (["run", "--help"], 120), (["run", LONG], 80), ([], 80)]
)
def test_no_line_of_a_command_is_longer_than_the_terminal(words: list[str], columns: int, tmp_path: Path) -> None:
    lines = on_screen(on_terminal([*NANOML, *words], columns, tmp_path)).splitlines()
    assert [line for line in lines if len(line) > columns and " " in line.strip()] == []
    if LONG in words:
        assert f"{LONG}:" in lines


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(["rnu"], {"TERM": "dumb"}), (["rnu"], {"NO_COLOR": "1"}), (["rnu"], {}), (["doctor", "--for", "laptop"], {})],
)
def test_colours_only_where_they_are_wanted(arguments: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    sent = on_terminal([*NANOML, *arguments], 80, tmp_path, **environment)
    assert bool(re.search(r"\x1b\[[0-9;]*3[1-7]m", sent)) != bool(environment)
    assert [line for line in on_screen(sent).splitlines() if len(line) > 80 and " " in line.strip()] == []


def test_what_is_piped_is_neither_wrapped_nor_coloured(tmp_path: Path) -> None:
    long = tmp_path / f"{'a' * 100} {'b' * 100}.root"
    done = nanoml("inspect", long, cwd=tmp_path)
    assert done.stderr.splitlines()[0] == f"{long.name}: no such file."
    done = nanoml("doctor", "--for", "laptop", cwd=tmp_path)
    (packages,) = (line for line in done.stdout.splitlines() if " packages " in line)
    assert "numpy" in packages
    assert "Jinja2" in packages
    assert "\x1b" not in done.stdout + done.stderr


def test_json_and_what_is_copied_are_not_wrapped(tmp_path: Path) -> None:
    sent = on_terminal([*NANOML, "config", "schema"], 80, tmp_path, PYTHONWARNINGS="ignore")
    assert max(map(len, sent.splitlines())) > 80


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("skim", 1000) as bar:
        bar.advance(400)
        bar.advance(600, note="fine")
    say("branch \x1b[2J\x9b0m\r of\ta\nfile \udcff.root")  # a terminal cannot show all of it
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("skim: 1,000 events (fine) in 0.")
    assert shown.err.endswith("\nbranch ?[2J?0m? of\ta\nfile ?.root\n")


def test_data_are_in_per_cent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No line tells how many events there are, not even that there are none."""
    monkeypatch.setattr("MLTools.NanoML.terminal.progress._EVERY", 0.0)
    for parts, begun in (((200, 145), "58"), ((0,), "100")):
        with progress("fill", sum(parts), is_share=True) as bar:
            for part in parts:
                bar.advance(part)
        lines = capsys.readouterr().err.splitlines()
        assert f"fill: {begun} of 100 %" in lines
        assert lines[-1].startswith("fill: 100 % in 0.")


def test_parts_of_a_long_work_leave_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("skim", 2, "files") as bar:
        for name in ("a", "b"):
            with progress(f"skim {name}", 1000) as part:
                part.advance(1000)
            bar.advance()
    with progress("convert", 2000) as bar:
        bar.advance(2000)
    shown = [line.partition(" in ")[0] for line in capsys.readouterr().err.splitlines()]
    assert shown == ["skim: 2 files", "convert: 2,000 events"]


def test_a_bar_on_a_terminal() -> None:
    sent = on_terminal([sys.executable, "-c", SHOW], 80)
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
    ("name", "before", "ends"),
    [("INT", signal.SIG_DFL, "KeyboardInterrupt"), ("INT", signal.SIG_IGN, None), ("TERM", signal.SIG_DFL, "")],
)
def test_a_dropped_signal_ends_the_work(name: str, before: signal.Handlers, ends: str | None) -> None:
    number = signal.Signals[f"SIG{name}"]
    line = [sys.executable, "-c", LOST.replace("NUMBER", number.name)]
    options = {"capture_output": True, "preexec_fn": lambda: signal.signal(number, before)}
    done = subprocess.run(line, text=True, check=False, **options)  # type: ignore[call-overload]
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
