"""What stands in for the program of nanoAOD-tools in a user's file."""

from __future__ import annotations

from typing import Any, NoReturn

from MLTools.NanoML.errors import NanoMLError

__all__ = ["PostProcessor"]


class PostProcessor:
    """Refuses to run: a file that only defines modules may import it, but not call it.

    Raises
    ------
    NanoMLError
        Always.
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        self.run()

    def run(self) -> NoReturn:
        """Refuse."""
        raise NanoMLError(
            "a PostProcessor is started as soon as this file is imported: start it under "
            '`if __name__ == "__main__":`, so that the modules can be used here too.'
        )
