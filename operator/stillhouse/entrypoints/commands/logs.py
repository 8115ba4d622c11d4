"""`still logs`."""

from __future__ import annotations

import time

import click

from stillhouse.entrypoints.options import name_argument

__all__ = ["command"]


@click.command()
@name_argument
@click.option("-f", "--follow", is_flag=True, help="Go on printing until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0), default=100, show_default=True, help="How many of the last lines.")
def command(name: str, follow: bool, lines: int) -> None:
    """Show a server's log, of the running or the last one.

    \b
    Example:
      still logs docstring-search -f
    """
    from collections import deque

    from stillhouse.clients.store.local import LocalStore
    from stillhouse.entrypoints.local import servers
    from stillhouse.errors import UsageError
    from stillhouse.settings import load_settings

    path = servers.last_log(LocalStore(load_settings().home), name)
    if path is None:
        raise UsageError("there is no log of this model", field="NAME", found=name, fix="still status")
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in deque(stream, maxlen=lines):
            click.echo(line, nl=False)
        try:
            while follow:
                line = stream.readline()
                if line:
                    click.echo(line, nl=False)
                else:
                    time.sleep(0.2)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None
