"""`still completion`."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the shell's completion script.

    \b
    Example:
      still completion bash > ~/.local/share/bash-completion/completions/still
    """
    from click.shell_completion import get_completion_class

    from stillhouse.entrypoints.cli import app

    completer = get_completion_class(shell)
    assert completer is not None
    click.echo(completer(app, {}, "still", "_STILL_COMPLETE").source())
