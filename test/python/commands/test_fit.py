from __future__ import annotations

import pytest
from click.testing import CliRunner

from MLTools.NanoML.cli import nanoml


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit", "a.yaml", "-o", "there"], "Options other than --force are for a workspace"),
        (["fit", "a.yaml", "--toys", "2000"], "Options other than --force are for a workspace"),
        (["fit", "workspace.json"], "Say where the results go: -o DIRECTORY."),
        (["fit", "workspace.json", "-o", "there", "--toys", "10"], "write auto, never, or a number of at least 1000"),
    ],
)
def test_what_an_analysis_says_itself_and_a_workspace_does_not(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(nanoml, arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
