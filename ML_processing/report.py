"""The report: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ML_processing.metrics import Measured
from ML_processing.plots import number

__all__ = ["report"]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; margin: .8rem 0; } td, th { padding: .25rem .9rem .25rem 0; text-align: left; }
th { border-bottom: 1px solid #999; } td { border-bottom: 1px solid #eee; } td.number { text-align: right; }
figure { margin: 1.2rem 0; } img { max-width: 40rem; width: 100%; } figcaption { max-width: 44rem; color: #444; }
.verdict { background: #eef3fb; border-left: 4px solid #5790fc; padding: .6rem 1rem; }
.note { background: #fdf3e3; border-left: 4px solid #f89c20; padding: .6rem 1rem; margin: .4rem 0; }
"""

_PLOTS = {
    "roc": (
        "ROC curve",
        "Each point is a cut on the signal probability: how much signal passes it, and how much background still does. "
        "Lower is better. Worrying: the network's curve well above the dashed one of the trees, or a straight line "
        "to the corner, which is guessing (on this logarithmic axis guessing bends steeply down at the left).",
    ),
    "scores": (
        "Signal probability by class",
        "Lines are the events that the networks were trained on, points with statistical errors those they have not "
        "seen. Signal should pile up at the right, background at the left. Worrying: points that leave the line of "
        "their colour by several errors in many bins, which is overtraining; or all classes having the same shape.",
    ),
    "confusion": (
        "Confusion matrix",
        "Each row is a true class, and says to which class its events are given by the highest probability; every row "
        "sums to 100 %. The diagonal should be dark. Worrying: a row without a dark cell, or a column that takes "
        "everything.",
    ),
    "loss": (
        "Loss",
        "Smaller is better; solid lines are events that only decide when to stop, dashed ones those of the training, "
        "and a dot marks the epoch whose weights were kept. Both should fall and flatten. Worrying: solid lines that "
        "rise far above the dashed ones before the dot, lines that still fall at the end (more epochs would help), or "
        "one fold far from the others.",
    ),
}


def report(description: dict[str, Any], content: dict[str, Any], directory: Path) -> str:
    """The report as HTML.

    Parameters
    ----------
    description
        Content of training.json.
    content
        Content of metrics.json.
    directory
        Where the plots are, as PNG files.
    """
    classes = ", ".join(content["classes"])
    parts = [
        f"<h1>Training report: {escape(content['signal'])} among {escape(classes)}</h1>",
        "<p>All numbers and plots but the lines marked as training are of events that the network in question has not "
        "seen in its training.</p>",
        *(f'<p class="verdict">{escape(text)}</p>' for text in content["verdict"]),
        *(f'<p class="note">{escape(text)}</p>' for text in content["notes"]),
        "<h2>Numbers</h2>",
        _auc_table(content),
        _cut_table(content),
        _event_table(content),
        *(_figure(directory, name) for name in _PLOTS),
        "<h2>Where this comes from</h2>",
        _provenance(description, content),
    ]
    head = f'<meta charset="utf-8"><title>Training report</title><style>{_STYLE}</style>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _auc_table(content: dict[str, Any]) -> str:
    def row(label: str, entry: dict[str, Any]) -> list[str]:
        pairs = ("network", "baseline", "difference")
        return [label, *(number(Measured(entry[name], entry[f"{name}_error"])) for name in pairs)]

    signal = content["signal"]
    rows = [row(f"{signal} against all others", content["auc"])]
    rows += [
        row(f"{signal} against {name}", entry["weighted"]) for name, entry in content["auc_against"].items()
    ]
    rows += [row(f"{signal} against all others, every event counting the same", content["auc_unweighted"])]
    rows += [
        row(f"{signal} against {name}, every event counting the same", entry["unweighted"])
        for name, entry in content["auc_against"].items()
    ]
    return (
        _table(["AUC (1 is perfect, 0.5 is guessing)", "network", "trees", "difference"], rows)
        + "<p>Errors are statistical. The trees are "
        + escape(content["baseline"])
        + ".</p>"
    )


def _cut_table(content: dict[str, Any]) -> str:
    rows = [
        [
            f"{cut['score_at_least']:.4f}",
            f"{cut['signal_efficiency']:.1%}",
            f"{cut['background_efficiency']:.2%}",
        ]
        for cut in content["cuts"]
    ]
    return (
        _table(["cut: signal probability at least", "signal kept", "background kept"], rows) if rows else ""
    )


def _event_table(content: dict[str, Any]) -> str:
    events = content["events"]
    rows = [
        [name, f"{entry['events']:,}", f"{entry['sum_of_weights']:.4g}"]
        for name, entry in events["classes"].items()
    ]
    tested = f"{events['tested']:,} of {events['total']:,} events are tested."
    return _table(["class", "events", "sum of weights"], rows) + f"<p>{tested}</p>"


def _provenance(description: dict[str, Any], content: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in description["versions"].items())
    settings = ", ".join(
        f"{key} {value}" for key, value in description["config"].items() if value is not None
    )
    features = ", ".join(column["name"] for column in description["features"])
    folds = description["folds"]
    rows = [
        ["trained", f"{description['created']} on {description['device']}"],
        ["evaluated", content["created"]],
        ["versions", versions],
        ["code", description["git"] or "not in a git repository"],
        ["settings", settings],
        ["features", features],
        ["selection", description["selection"] or "none"],
        ["folds", f"{folds['networks']} networks, {folds['k']} folds: {folds['hash']}"],
        ["events", f"SHA-256 {description['data']['sha256']}"],
    ]
    rows += [["dataset", _dataset(dataset)] for dataset in description["datasets"]]
    return _table(["", ""], rows)


def _dataset(dataset: dict[str, Any]) -> str:
    books = dataset["books"]
    cross_section = dataset["cross_section"]
    parts = [
        f"{dataset['name']} ({dataset['class'] or 'no class'})",
        f"{books['selected']:,} of {books['entries']:,} events selected",
        f"sum of weights {books['sum_of_weights']:.6g}" if books["sum_of_weights"] is not None else "",
        f"cross section {cross_section:g} pb" if cross_section is not None else "no cross section",
    ]
    return ", ".join(part for part in parts if part)


def _figure(directory: Path, name: str) -> str:
    title, caption = _PLOTS[name]
    image = base64.b64encode((directory / f"{name}.png").read_bytes()).decode()
    return (
        f'<h2>{title}</h2>\n<figure><img alt="{title}" src="data:image/png;base64,{image}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(text)}</th>" for text in head)
    lines = ("".join(f"<td>{escape(text)}</td>" for text in row) for row in rows)
    header = f"<tr>{titles}</tr>" if any(head) else ""
    return f"<table>{header}" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
