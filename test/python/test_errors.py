from __future__ import annotations

import errno

import pytest

from MLTools.NanoML.errors import explain_os_error, is_os_error


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
