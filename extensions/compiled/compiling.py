"""The stage compile: models with the selection inside, for simulation and data of each era."""

from __future__ import annotations

from collections.abc import Mapping

from MLTools.NanoML.dependencies import code_of, source_of
from MLTools.NanoML.extending import settings_of
from MLTools.NanoML.extensions.compiled.requests import Compilation, CompileJob, Source
from MLTools.NanoML.extensions.compiled.settings import OfExport
from MLTools.NanoML.model import twin_of
from MLTools.NanoML.workflow.analysis import Analysis, Stage
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.task import Task

_FILES = 3  # of a dataset, from which events are taken for a comparison


def compile_stage(analysis: Analysis) -> Stage | None:
    """The models with the selection inside: one for the simulation and one for the data of each era."""
    config = analysis.config
    if config.export is None or config.train is None:
        return None
    asked = settings_of(config.export, OfExport)
    if not asked.selection:
        return None
    skim, layout = config.skim, Layout.of(config)
    if skim is None or skim.selection is None:
        raise config.error("export", "selection", message="there is no skim.selection to be put into the model")
    if skim.modules:
        text = (
            f"{skim.modules[0]} of skim.modules is a module of nanoAOD-tools, which works event by event and cannot be compiled: do "
            "the same in `select`"
        )
        raise config.error("export", "selection", message=text)
    from MLTools.NanoML.selection import load_selection  # few analyses ask for it

    wanted = Compilation(skim.selection, str(config.base), asked.compared, dict(asked.room), skim.cut or "")
    selection = source_of(load_selection(skim.selection, config.base))
    code = code_of("MLTools.NanoML.extensions.compiled.with_selection", selection)
    groups: dict[tuple[str | None, bool], list[str]] = {}
    for name, dataset in config.datasets.items():
        groups.setdefault((dataset.era, dataset.is_data), []).append(name)
    tasks = []
    for (era, is_data), names in groups.items():
        output, model = layout.with_selection(era, is_data), layout.model(config.training_of(names[0]))
        sources = [Source(config.info_of(name), tuple(analysis.files[name][:_FILES])) for name in names]
        job, outputs = CompileJob(model, output, sources, wanted), (output, twin_of(output))
        tasks.append(Task.of("compile", output.stem, _compile, job, code, outputs=outputs))
    return Stage("compile", tasks)


def _compile(job: CompileJob) -> Mapping[str, object]:
    from MLTools.NanoML.extensions.compiled.with_selection import export_with_selection

    made = export_with_selection(job.model, job.output, job.sources, job.wanted)
    return {"events": made["selection"]["events"]}
