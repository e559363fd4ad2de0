"""`nanoml config`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from MLTools.NanoML.commands.options import config_argument, epilog, json_option

__all__ = ["config"]


@click.group()
def config() -> None:
    """Check a configuration, or print its JSON Schema."""


@config.command(epilog=epilog("nanoml config check examples/trilepton.yaml"))
@config_argument
@json_option
def check(config: Path, as_json: bool) -> None:
    """Check a configuration: its keys and types, and its branches against the real files."""
    from MLTools.NanoML.config.analysis import load
    from MLTools.NanoML.workflow.stages import import_part

    loaded = load(config)
    found = import_part("data_processing.datasets.check").check(loaded) if loaded.datasets else []
    if as_json:
        click.echo(
            json.dumps(
                {"config": str(config), "valid": True, "datasets": found, "settings": loaded.as_dict()},
                indent=1,
            )
        )
        return
    for line in found:
        click.echo(line)
    click.echo(f"{config}: in order")


@config.command(epilog=epilog("nanoml config schema > nanoml.schema.json"))
def schema() -> None:
    """Print the JSON Schema of a configuration, for editors that complete and check.

    \b
    In VS Code with its YAML extension, write as the first line of the YAML file:
        # yaml-language-server: $schema=nanoml.schema.json
    """  # noqa: D301
    from MLTools.NanoML.config.analysis import schema as json_schema

    click.echo(json.dumps(json_schema(), indent=1))
