"""The tables of the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Any

from ML_processing.metrics.measured import Measured
from ML_processing.plots import number

if TYPE_CHECKING:
    from ML_processing.training.description import TrainingDescription
    from MLTools.NanoML.contracts.hdf5 import ConvertedDataset


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls where it is too wide; cells but the first of a row are numbers."""
    titles = "".join(f"<th>{escape(text)}</th>" for text in head)
    lines = ("".join(f"<td>{escape(text)}</td>" for text in row) for row in rows)
    header = f"<thead><tr>{titles}</tr></thead>" if any(head) else ""
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    kind = "numbers" if header else "facts"
    return f'<div class="scroll"><table class="{kind}">{header}<tbody>{body}</tbody></table></div>'


def numbers(content: dict[str, Any]) -> str:
    """All tables of numbers."""
    tables = [_areas, _at_parameter, _points, _best, _pairs, _events]
    if content["task"] == "regression":
        tables = [_targets, _events]
    return "\n".join(text for make in tables if (text := make(content)))


def _areas(content: dict[str, Any]) -> str:
    def row(label: str, entry: dict[str, Any]) -> list[str]:
        pairs = ("network", "baseline", "difference")
        return [label, *(number(Measured(entry[name], entry[f"{name}_error"])) for name in pairs)]

    signal, against, rows = content["signal"], content["auc_against"], []
    for key, of_all, note in (
        ("weighted", "auc", ""),
        ("unweighted", "auc_unweighted", ", all events counting the same"),
    ):
        rows.append(row(f"{signal} against all others{note}", content[of_all]))
        if len(against) > 1:
            rows += [row(f"{signal} against {name}{note}", entry[key]) for name, entry in against.items()]
    resampled = content["auc_bootstrap_error"]
    check = f" (a bootstrap gives ± {resampled:.4f} for the first)" if resampled is not None else ""
    text = f"Errors are statistical, after DeLong{check}. The BDT is {content['baseline']}."
    head = ["AUC (1 is perfect, 0.5 is guessing)", "network", "BDT", "difference"]
    return table(head, rows) + f"<p>{escape(text)}</p>"


def _at_parameter(content: dict[str, Any]) -> str:
    if not content["auc_at_parameter"]:
        return ""
    rows = [
        [f"{it['parameter']:g}", number(Measured(it["value"], it["error"])), f"{it['signal_events']:,}"]
        for it in content["auc_at_parameter"]
    ]
    text = "At each value of the parameter: the signal with this value against all background, which is scored at it."
    return table(["parameter", "AUC of the network", "signal events"], rows) + f"<p>{text}</p>"


def _points(content: dict[str, Any]) -> str:
    def row(cut: dict[str, Any]) -> list[str]:
        background, error = cut["background_efficiency"], cut["background_efficiency_error"]
        rejection = "no background left"
        if cut["background_rejection"] is not None:
            rejection = f"{cut['background_rejection']:.4g} ± {cut['background_rejection_error']:.2g}"
        background = f"{100 * background:.3g} ± {100 * error:.2g} %"
        return [f"{cut['score_at_least']:.4f}", f"{cut['signal_efficiency']:.1%}", background, rejection]

    head = ["cut: signal probability at least", "signal kept", "background kept", "background rejection (1 / kept)"]
    return table(head, map(row, content["cuts"])) if content["cuts"] else ""


def _best(content: dict[str, Any]) -> str:
    found = content["plots"].get("significance")
    if not found:
        return ""
    best = found["best"]
    text = (
        f"Best cut: signal probability at least {best['score_at_least']:.4f}. Behind it {best['signal']:.4g} signal and "
        f"{best['background']:.4g} background events are expected: significance {best['asimov']:.3g} ± "
        f"{best['asimov_error']:.2g}, and {best['asimov_with_background_error']:.3g} with the statistical error of the "
        f"background; without a cut {found['without_cut']:.3g}."
    )
    if not found["physical"]:
        text += (
            " A dataset has no cross section, or there is no luminosity: the sums of weights are not numbers of "
            "events, and the significance only ranks cuts."
        )
    return f"<p>{escape(text)}</p>"


def _pairs(content: dict[str, Any]) -> str:
    classes = content["classes"]
    if len(classes) < 3:
        return ""
    pairs, alone = content["auc_one_against_one"], content["auc_one_against_all"]
    rows = []
    for name in classes:
        others = ("" if name == other else number(Measured(**pairs[name][other])) for other in classes)
        rows.append([name, number(Measured(**alone[name])), *others])
    text = (
        "One against all is a cut on the probability of the class, one against one on its share of the two probabilities, "
        "p / (p + q)."
    )
    return table(["AUC of", "against all", *(f"against {name}" for name in classes)], rows) + f"<p>{text}</p>"


def _targets(content: dict[str, Any]) -> str:
    rows = []
    for name, entry in content["targets"].items():
        for of, label in (("network", "network"), ("baseline", "BDT")):
            values = (_value(entry[of][key]) for key in ("bias", "rmse", "resolution"))
            rows.append([f"{name}, {label}", *values])
        rows.append([f"{name}, BDT - network", "", _value(entry["gain_in_rmse"]), ""])
    text = f"Errors are statistical. The BDT is {content['baseline']}."
    return table(["target", "bias", "RMSE", "resolution (68 %)"], rows) + f"<p>{escape(text)}</p>"


def _value(entry: dict[str, float | None]) -> str:
    value, error = entry["value"], entry["error"]
    return "not defined" if value is None or error is None else f"{value:.4g} ± {error:.2g}"


def _events(content: dict[str, Any]) -> str:
    events = content["events"]
    rows = [
        [
            name,
            f"{entry['events']:,}",
            f"{entry['sum_of_weights']:.4g}",
            f"{entry['effective']:,.0f}",
            f"{entry['negative']:.1%}",
        ]
        for name, entry in events["classes"].items()
    ]
    tested = f"{events['tested']:,} of {events['total']:,} events are tested."
    head = ["class", "events", "sum of weights", "effective events", "negative weights"]
    return table(head, rows) + f"<p>{tested}</p>"


def provenance(description: TrainingDescription, content: dict[str, Any]) -> str:
    """Where a training and its evaluation come from."""
    versions = ", ".join(f"{name} {version}" for name, version in description.versions.items())
    settings = ", ".join(f"{key} {value}" for key, value in asdict(description.config).items() if value is not None)
    features = ", ".join(column.name for column in description.features)
    folds = description.folds
    rows = [
        ["trained", f"{description.created} on {description.device}"],
        ["evaluated", content["created"]],
        ["versions", versions],
        ["code", description.git or "not in a git repository"],
        ["settings", settings],
        ["features", features],
        ["selection", description.selection or "none"],
        ["folds", f"{folds.networks} networks, {folds.k} folds: {folds.hash}"],
        ["events", f"SHA-256 {description.data.sha256}"],
    ]
    rows += [["dataset", _dataset(dataset)] for dataset in description.datasets]
    if content["plots"].get("drift"):
        rows.append(["compared files", ", ".join(content["plots"]["drift"]["files"])])
    return table(["", ""], rows)


def _dataset(dataset: ConvertedDataset) -> str:
    accounting, cross_section = dataset.accounting, dataset.cross_section
    parts = [
        f"{dataset.name} ({dataset.class_ or 'no class'})",
        f"{accounting.selected:,} of {accounting.entries:,} events selected",
        f"sum of weights {accounting.sum_of_weights:.6g}",
        f"cross section {cross_section:g} pb" if cross_section is not None else "no cross section",
    ]
    gone = [each.file for each in dataset.missing]
    if gone:
        parts.append(f"left out as they could not be read: {', '.join(gone)}")
    return ", ".join(part for part in parts if part)
