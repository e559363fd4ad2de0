"""Tables and figures as a submission to HEPData."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.plain import content_of
from MLTools.NanoML.terminal.progress import say

UNKNOWN = "-"
_DATA = "Data"
_LONGEST = 64  # name of a table


@dataclass(frozen=True)
class Table:
    """A table of HEPData: its name, what it shows, its content, and its figure if there is one."""

    name: str
    about: str
    content: Mapping[str, Any]
    figure: Path | None = None

    @classmethod
    def of_figures(cls, directory: Path, prefix: str, is_blind: bool) -> Iterator[Table]:
        """The figures of a directory that have such a table; if it is blind, without data, also of regions that are not."""
        for path in sorted(directory.glob("*.json")):
            content = content_of(path)
            if not isinstance(content, dict) or "dependent_variables" not in content or path.stem.endswith("_log"):
                continue
            shown = [it for it in content["dependent_variables"] if not (is_blind and it["header"]["name"] == _DATA)]
            for cell in (cell for it in shown for cell in it["values"]):
                cell["value"] = UNKNOWN if cell["value"] is None else cell["value"]
                if cell.get("errors", [{}])[0].get("symerror") == 0:  # HEPData has no errors that are zero
                    del cell["errors"]
            for header in (it["header"] for it in content["independent_variables"]):  # the unit has a place of its own
                header["name"] = header["name"].removesuffix(f" [{header.get('units')}]")
            is_whole = len(shown) == len(content["dependent_variables"])
            figure = path.with_suffix(".png")
            name = f"{prefix}{path.stem}"
            content = {**content, "dependent_variables": shown}
            yield cls(name, f"Events in each bin: {name}.", content, figure if is_whole and figure.exists() else None)

    @classmethod
    def of_rows(cls, name: str, about: str, first: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
        """A table of numbers by row and column."""
        columns = dict.fromkeys(column for row in rows.values() for column in row)
        dependent = [
            {"header": {"name": column}, "values": [{"value": row.get(column, UNKNOWN)} for row in rows.values()]}
            for column in columns
        ]
        independent = {"header": {"name": first}, "values": [{"value": row} for row in rows]}
        return cls(name, about, {"independent_variables": [independent], "dependent_variables": dependent})


def write_submission(directory: Path, comment: str, tables: Sequence[Table], energies: Sequence[float]) -> None:
    """Write submission.yaml, a file for each table, and the figures; check them if hepdata-validator is installed."""
    directory.mkdir()
    keywords = [{"name": "cmenergies", "values": [1000 * it for it in energies]}] if energies else []
    documents: list[dict[str, Any]] = [{"comment": comment}]
    for table in tables:
        (directory / f"{table.name}.yaml").write_text(_yaml(table.content), encoding="utf-8")
        entry = {"name": table.name[:_LONGEST], "description": table.about, "keywords": keywords}
        documents.append({**entry, "data_file": f"{table.name}.yaml"})
        if table.figure is not None:
            shutil.copy(table.figure, directory / f"{table.name}.png")
            documents[-1]["additional_resources"] = [{"location": f"{table.name}.png", "description": "Figure"}]
    text = "---\n".join(map(_yaml, documents))
    (directory / "submission.yaml").write_text(text, encoding="utf-8")
    try:
        from hepdata_validator.full_submission_validator import FullSubmissionValidator
    except ImportError:
        say("hepdata: not checked, since hepdata-validator is missing: pip install hepdata-validator")
        return
    validator = FullSubmissionValidator()
    if not validator.validate(directory=str(directory)):
        found = [str(it.message) for each in validator.get_messages().values() for it in each]
        raise NanoMLError(f"{directory}: is not a submission to HEPData: {found[0]}")


def _yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
