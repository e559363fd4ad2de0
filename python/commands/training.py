"""`nanoml tune` and `export`: a search for good settings of the training, and the networks as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from MLTools.NanoML.commands.options import PATH, command, config_argument, flag, output_option, run_one, workers_option
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.workflow.stages import duration


class _Duration(click.ParamType):  # type: ignore[type-arg]
    name = "duration"

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> float:
        """Seconds in text such as 90s, 30min, 2h or 1.5d; a number alone is in seconds."""
        try:
            return float(duration(f"{value}s" if str(value)[-1:].isdigit() else str(value)))
        except ConfigError:
            self.fail(f"{value} is not a time. Write it as in 30min, 2h or 90s.", param, ctx)


@command(
    "nanoml tune examples/trilepton.yaml -n 50 --workers 4",
    "nanoml tune examples/trilepton.yaml --join --timeout 2h",
    short="Search for good settings of the training.",
)
@config_argument
@click.option(
    "-n", "--trials", type=click.IntRange(1), help="Trials in all; default: those of the configuration, or 50."
)
@workers_option("Trials at the same time")
@click.option("--timeout", type=_Duration(), metavar="TIME", help="Stop after this time, as in 30min or 2h.")
@flag("--join", "Only work on trials of a search that is running: for jobs on other machines.")
@flag("--dry-run", "Only say what would be done.")
@flag("--force", "Remove the existing search, and begin a new one.")
def tune(
    config: Path, trials: Optional[int], workers: int, timeout: Optional[float], join: bool, dry_run: bool, force: bool
) -> None:
    """Search for good settings of the training, by the section tune of the configuration.

    Each trial trains one network; no trial reads the events of the test fold. In the end the best settings
    are tested on these events, and written to WORKDIR/tuning/best.yaml. The search may be interrupted at any moment; the
    same command continues it.
    """
    if join and force:
        raise click.UsageError("--join works on an existing search: use it without --force.")
    from MLTools.NanoML.config.analysis import load
    from MLTools.NanoML.workflow.stages import import_part

    loaded, search = load(config), import_part("ML_processing.tuning.search")
    options = search.SearchOptions(trials, workers, timeout, join, force)
    if not dry_run:
        search.tune(loaded, options)
        return
    for line in search.plan(loaded, options):
        click.echo(line)


@command(
    "nanoml export examples/trilepton.yaml",
    "nanoml export examples/trilepton/training --cmssw CMSSW_14_1_X -o model.onnx",
    short="Write the networks as one ONNX file.",
)
@click.argument("source", metavar="CONFIG | TRAINING", type=PATH)
@output_option("MODEL.onnx", "Write it there.")
@click.option("--cmssw", metavar="RELEASE", help="The release that must be able to run it, as CMSSW_14_0_X.")
@click.option("--onnxruntime", metavar="VERSION", help="Or the version of ONNX Runtime, as 1.17.1.")
@click.option("--name", metavar="NAME", help="Name of the model; default: that of the file.")
@flag("--preprocess", "Also write what CMSSW's jet taggers (RecoBTag) read: MODEL_preprocess.json.")
@flag("--force", "Do it again, even if it is up to date.")
def export(
    source: Path,
    output: Optional[Path],
    cmssw: Optional[str],
    onnxruntime: Optional[str],
    name: Optional[str],
    preprocess: bool,
    force: bool,
) -> None:
    """Write the trained networks as one ONNX file that describes itself.

    A configuration alone says how. With --output, the training in a directory, or that of a configuration, is exported
    as the options say.
    """
    is_config = source.suffix in (".yaml", ".yml")
    if output is None:
        if not is_config or cmssw or onnxruntime or name or preprocess:
            raise click.UsageError(
                "Say where the model goes: -o MODEL.onnx. Only a configuration without other options needs no -o."
            )
        run_one(source, "export", force)
        return
    from MLTools.NanoML.config.analysis import load
    from MLTools.NanoML.config.training import Export
    from MLTools.NanoML.workflow.stages import Layout, import_part

    training = Layout.of(load(source)).training if is_config else source
    exporting = import_part("ML_processing.export.export")
    exporting.export(training, output, Export(cmssw, name), onnxruntime, preprocess)
