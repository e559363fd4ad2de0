"""The events of each region: what is expected of each class, and what the networks give for them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from html import escape

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ML_processing.evaluation.content import Evaluation, Part, section
from ML_processing.evaluation.expected import (
    Accuracy,
    BinnedOutput,
    ClassYield,
    Separation,
    binned_outputs,
    measured_in,
    stacked,
)
from ML_processing.evaluation.measurement import Measurement
from ML_processing.evaluation.sections.regression import ACCURACY, accuracy_row
from ML_processing.evaluation.sections.variations import Variations, VariedYields
from ML_processing.metrics.measured import MERGED, number, per_cent
from ML_processing.training.data import TrainingFiles
from MLTools.NanoML.report.figures import Draw, in_style, panels
from MLTools.NanoML.report.page import table
from MLTools.NanoML.report.section import Block, Caption, Style
from MLTools.NanoML.report.stack import draw_stack

_SCALE = 0.57  # of lines in a small plot
_IN_WORDS = 3  # variations


@dataclass(frozen=True)
class RegionResult:
    """The events of a region."""

    cut: str
    is_trained_on: bool  # whether it is one of those that the training is restricted to
    yields: dict[str, ClassYield]
    measured: Separation | Accuracy = field(metadata=MERGED)
    signal: str | None  # None for a regression
    outputs: list[BinnedOutput]
    events: int  # with a score
    physical: bool  # whether the weights are expected numbers of events

    def draw(self, style: Style) -> Figure | None:
        """Expected events in bins of each output: the backgrounds stacked, the signal as a line in front of them."""
        right = style.conditions() if self.physical else f"{self.events:,} events"
        return panels(style, [partial(self._show, it) for it in self.outputs], right, 3, (5.4, 4.4))

    def _show(self, panel: BinnedOutput, axes: Axes, style: Style) -> None:
        what = "Expected events" if self.physical else "Sum of weights"
        content = stacked(style, style.unit(panel.label), panel, self.signal, what)
        draw_stack(axes, content, logarithmic=True, scale=_SCALE)
        axes.set_xlabel(style.axis(panel.label))

    def tables(self, varied: Sequence[VariedYields], hidden: Sequence[str] = ()) -> str:
        """The cut, the events of each class and what varies them most, and how well the networks do; `hidden` as in `Evaluation`."""
        trained = " The networks were trained on events of this region." if self.is_trained_on else ""
        text = f"<p><code>{escape(self.cut)}</code>.{trained}</p>"
        head = ["class", "events", "expected events" if self.physical else "sum of weights"]
        rows = [
            [name, "blind" if name in hidden else f"{it.events:,}", number(it.sum_of_weights)]
            for name, it in self.yields.items()
        ]
        if isinstance(self.measured, Separation):
            head.append("AUC against all others")
            areas = self.measured.auc_one_against_all
            rows = [[*row, number(area)] for row, area in zip(rows, areas.values(), strict=True)]
            return text + table(head, rows) + _largest(varied)
        accuracy = [accuracy_row(name, entry) for name, entry in self.measured.targets.items()]
        return text + table(head, rows) + _largest(varied) + table(ACCURACY, accuracy)


@section("regions", place="last", after="separation")
@dataclass(frozen=True)
class Regions(Part):
    """The results in each region, also in those that the networks were not trained on."""

    caption = Caption(
        "Scores in a region",
        "Discriminants and probabilities of classes, or estimates, for the events of the region: the expected events of all other "
        "classes on top of each other, "
        "with the statistical error of their sum, and those of the signal as a line. Events beyond the ends are in the outer bins.",
        "Bins at the right that hardly any simulated event fills; a large statistical error where the signal is.",
    )

    regions: dict[str, RegionResult] = field(metadata=MERGED)

    @classmethod
    def compute(cls, of: Measurement) -> Regions:
        """The HDF5 files are read once for each region, so that no more events than those of one are in memory."""
        training, settings, found = of.training, of.training.description.config, {}
        for region in of.data.columns.regions:
            data = TrainingFiles.open(of.files, replace(settings, regions=[region.name]))
            yields, measured, tested = measured_in(training, data)
            found[region.name] = RegionResult(
                region.cut,
                region.name in settings.regions,
                yields,
                measured,
                None if training.targets else tested.table.classes[training.signal],
                binned_outputs(tested),
                len(tested.table),
                of.physical,
            )
        return cls(found)

    def figures(self, style: Style) -> Iterator[tuple[str, Draw]]:
        """One for each region with a score."""
        for name, found in self.regions.items():
            if found.outputs:
                yield f"region_{name}", partial(in_style(found.draw), style)

    def numbers(self, figure: str) -> object:
        """The outputs in a region."""
        return self.regions[figure.removeprefix("region_")].outputs

    def blocks(self, page: Evaluation, drawn: Collection[str]) -> Iterator[Block]:
        """One for each region."""
        varied = page.of(Variations)
        for name, found in self.regions.items():
            figures = [(f"region_{name}", self.caption)] if f"region_{name}" in drawn else []
            of_region = varied.regions[name] if varied else []
            yield Block(f"region_{name}", f"Region {name}", found.tables(of_region, page.hidden), figures)


def _largest(content: Sequence[VariedYields]) -> str:
    """A line about the largest changes of the expected events of a region."""
    texts = []
    for it in (it for it in content[:_IN_WORDS] if it.size > 0):
        name, change = max(it.yields.items(), key=lambda pair: pair[1].size)
        texts.append(f"{it.name} {per_cent(change.up, change.down, unit=' %')} of {name}")
    return f"<p>Largest variations of the expected events: {escape(', '.join(texts))}.</p>" if texts else ""
