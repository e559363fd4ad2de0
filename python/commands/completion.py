"""`nanoml completion`."""

from __future__ import annotations

import click

from MLTools.NanoML.commands.options import epilog

__all__ = ["completion"]


@click.command(
    short_help="Print the shell's part of completion by Tab.",
    epilog=epilog(
        "nanoml completion bash >> ~/.bashrc",
        "nanoml completion zsh >> ~/.zshrc",
        "nanoml completion fish > ~/.config/fish/completions/nanoml.fish",
    ),
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what lets a shell complete commands, options and files of `nanoml` when Tab is pressed.

    It works in shells that are started after that.
    """
    from click.shell_completion import get_completion_class

    known = get_completion_class(shell)
    assert known is not None
    click.echo(known(context.find_root().command, {}, "nanoml", "_NANOML_COMPLETE").source())
