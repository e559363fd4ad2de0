"""Whether the result depends on the seed, and whether more events would help, in plain words."""

from __future__ import annotations

from collections.abc import Iterator

from ML_processing.evaluation.stability.repeats import Repeats
from ML_processing.evaluation.verdict import Answer, finding
from ML_processing.plots import number

_MATTERS = 0.005  # a difference in AUC that a physicist would care about


def repeat_answers(found: Repeats | None) -> Iterator[Answer]:
    """One answer about the seeds, one about the number of events, where these were varied."""
    if found is None:
        return
    spread, error = found.spread, found.seeds[0].auc.error
    if spread.value is not None and spread.error is not None and error is not None:
        values = [it.auc.value for it in found.seeds if it.auc.value is not None]
        text = (
            f"AUC of {len(values)} trainings that differ in their seeds alone: mean {sum(values) / len(values):.4f}, standard "
            f"deviation {spread.value:.4f} ± {spread.error:.4f}, where the events alone give each an error of {error:.4f}."
        )
        if found.score_spread is not None:
            text += f" The score of an event changes by {found.score_spread:.3f}."
        state = "good"
        if spread.value > max(error, _MATTERS):
            state = "look"
            text += " That is more: a smaller train.learning_rate, more train.patience or more events make it steadier."
        yield Answer("The same with another seed?", state, text)
    gain = found.gain
    if gain.value is not None and gain.error is not None:
        before, now = found.curve[-2].events, found.curve[-1].events
        significant, relevant = gain.value > 2 * gain.error, gain.value > _MATTERS
        text = f"From {before:,} to {now:,} training events the AUC grows by {number(gain, 4)}, which is "
        text += finding(significant, relevant, "2 standard errors", f"{_MATTERS}")
        if significant and relevant:
            state, text = "look", f"{text}: more simulation would help."
        elif relevant or (gain.error > _MATTERS and not significant):
            state, text = "open", f"{text}: these events are too few to tell."
        else:
            state, text = "good", f"{text}: the curve is flat."
        yield Answer("Would more events help?", state, text)
