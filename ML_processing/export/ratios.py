"""The ratios of densities in an unbinned channel: networks are trained, compared with the events, and written as one model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ML_processing.evaluation.closure import closure_of
from ML_processing.export.export import export_networks
from ML_processing.export.releases import target
from ML_processing.models.network import Network
from ML_processing.training.description import Epoch
from ML_processing.training.directory import one_thread
from ML_processing.training.fold import device_of, prepare
from ML_processing.training.ratios import RatioTraining, check_events, description_of
from ML_processing.training.result import ResultEvents
from MLTools.NanoML.config.fit import axes_of
from MLTools.NanoML.contracts.closure import RatioClosure
from MLTools.NanoML.contracts.densities import ratios_model
from MLTools.NanoML.terminal.progress import progress, say

if TYPE_CHECKING:
    from MLTools.NanoML.config.fit import FitTarget
    from MLTools.NanoML.config.training import Train


def learn_ratios(
    files: Sequence[Path], config: Train, channel: FitTarget, seeds: int, cmssw: str | None, output: Path
) -> RatioClosure:
    """Write the model of a channel, and return its closure.

    Its name is that of the `output`, and the `channel` a fit with it alone; there are networks of each fold with several `seeds`. Those
    that are finished wait in a directory beside the model, from which an interrupted training goes on. A NanoMLError says that the
    events do not allow it, or what `export` says.
    """
    limits, device, aside = target(cmssw), device_of(config), output.with_suffix("")
    quantities = {axes_of(*it)[0] for it in channel.histograms.items()}  # which no column need have
    events = ResultEvents.read(replace(config, target=channel), quantities)
    check_events(events)
    training = RatioTraining(config, description_of(events, files, config, device), events, device)
    folds = range(training.description.folds.k)
    networks: list[list[Network]] = [[] for _ in folds]
    prepare(aside, training.description)
    name, seeded = f"ratios of {output.stem}", [(fold, seed) for seed in range(seeds) for fold in folds]
    with one_thread(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        with progress(name, config.epochs * len(seeded), "epochs") as bar:

            def report(epochs: list[Epoch], note: str) -> None:
                bar.advance(len(epochs), note)

            for fold, seed in seeded:
                networks[fold].append(training.train(fold, seed, aside, report))
        closure = closure_of(training, networks)
    described = {"seeds": seeds, "closure": dict(closure.factors), "outcome": closure.text}
    about = replace(training.description, complete=True, metrics=described)
    export_networks(replace(training.joined(networks), description=about), output, ratios_model(output.stem), limits)
    shutil.rmtree(aside)
    say(f"{name}: {closure.text}")
    return closure
