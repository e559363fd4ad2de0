"""What is said, and known, of the tasks of a stage that failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from MLTools.NanoML.errors import NanoMLError, UnreadableError
from MLTools.NanoML.workflow.task import Task

__all__ = ["FailedTasksError"]

_MOST = 20  # failures that are listed


class FailedTasksError(NanoMLError):
    """One or more tasks of a stage failed; the others are done.

    Parameters
    ----------
    tasks
        All tasks of the stage.
    failures
        What became of some, by their names.
    hint
        What else can be done where files cannot be read, to follow "Run the same command again to retry".

    Attributes
    ----------
    stage
        Name of the stage.
    tasks, failures
        As given.
    """

    def __init__(self, tasks: Sequence[Task], failures: Mapping[str, NanoMLError], hint: str = "") -> None:
        self.stage, self.tasks, self.failures = tasks[0].stage, tasks, dict(failures)
        super().__init__("\n".join([*self._lines(), *self._advice(hint)]))

    @property
    def is_unreadable(self) -> bool:
        """Whether all that failed is that files of events cannot be read."""
        return all(isinstance(problem, UnreadableError) for problem in self.failures.values())

    def _lines(self) -> Iterable[str]:
        shown = list(self.failures.items())[:_MOST]
        yield from (f"{self.stage} {name}: {problem}" for name, problem in shown)
        if len(self.failures) > len(shown):
            yield f"and {len(self.failures) - len(shown)} more."

    def _advice(self, hint: str) -> Iterable[str]:
        total, failed = len(self.tasks), len(self.failures)
        done = total - failed
        if self.is_unreadable:
            it, kind = "it" if failed == 1 else "them", "files " if self.stage in ("skim", "score") else ""
            others = f"; {done} of {total} {kind}are done" if total > 1 else ""
            yield f"Nothing was written for {it}{others}. Run the same command again to retry{hint}."
        elif total > 1:
            yield f"{failed} of {total} failed, {done} are done. Mend this, then run the same command again."
