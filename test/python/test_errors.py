from __future__ import annotations

import errno

import pytest

from MLTools.NanoML.errors import explain_os_error, is_os_error, lacks_memory, told_once


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "x.h5: cannot write: the disk is full: free some space"),
        (PermissionError(errno.EACCES, "Permission denied"), "permission denied: choose a directory"),
        (RuntimeError("unable to close (errno = 28, error message = 'No space left on device')"), "the disk is full"),
        (OSError(errno.EIO, "Input/output error"), "x.h5: cannot write: Input/output error."),
        (RuntimeError("PytorchStreamWriter failed: file write failed, No space left on device"), "the disk is full"),
    ],
)
def test_the_systems_errors_say_what_to_do(problem: BaseException, message: str) -> None:
    assert is_os_error(problem)
    assert message in str(explain_os_error(problem, "x.h5", "write"))


def test_other_errors_are_not_taken_for_the_systems() -> None:
    assert not is_os_error(RuntimeError("shapes do not match"))
    noexec = "libtorch_cpu.so: failed to map segment from shared object: Operation not permitted"
    assert not lacks_memory(ImportError(noexec))


def test_mistakes_that_are_repeated_are_told_once() -> None:
    problems = [(f"d/{n}", f"skim d/{n}: /in/{n}.root: is cut off.", [f"/in/{n}.root"]) for n in range(40)]
    problems.insert(1, ("d/x", "skim d/x: /in/x.root: is no ROOT file", ["/in/x.root"]))
    assert told_once(problems) == [
        "skim d/0: /in/0.root: is cut off. The same goes for d/1, d/2, d/3 and 36 more.",
        "skim d/x: /in/x.root: is no ROOT file",
    ]
    assert told_once([("WZ", "twice the same", []), ("WZ", "twice the same", [])]) == ["twice the same"]


def test_how_many_there_are_of_something_makes_no_other_mistake() -> None:
    counts = [(f"d{n}", f"a.py:3: Own: the mask has {n} entries, but {n - 1} events are left", []) for n in (7, 80)]
    assert told_once(counts) == [f"{counts[0][1]}. The same goes for d80."]
    shares = [(f"d{n}", f"d{n}: {n}.5% of Jet lost ({n},000 of 90,000)", []) for n in (1, 2)]
    assert told_once(shares) == ["d1: 1.5% of Jet lost (1,000 of 90,000). The same goes for d2."]
    other = [("d1", f'"Lep{n}_pt" is in no skim of dataset d1.', []) for n in (1, 2)]
    assert len(told_once(other)) == 2
