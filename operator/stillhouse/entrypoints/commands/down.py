"""`still down`."""

from __future__ import annotations

import click

from stillhouse.entrypoints.options import name_argument

__all__ = ["command"]


@click.command()
@name_argument
def command(name: str) -> None:
    """Stop a model's server. What was built stays; requests under way are finished.

    \b
    Example:
      still down docstring-search
    """
    from stillhouse.clients.store.local import LocalStore
    from stillhouse.clients.store.locks import Busy
    from stillhouse.entrypoints.local import servers
    from stillhouse.errors import UsageError
    from stillhouse.settings import load_settings

    store = LocalStore(load_settings().home)
    if name not in store.model_names():
        raise UsageError(
            "there is no such model",
            field="NAME",
            found=name,
            allowed=", ".join(store.model_names()) or "none yet",
            fix="still status",
        )
    try:
        with store.model(name, wait=False):
            stopped = servers.stop(store, name)
    except Busy as busy:
        stopped = servers.stop(store, name, orphans=False)
        click.echo(f"process {busy.holder} is building or starting {name}; Ctrl-C there stops that", err=True)
    click.echo(f"{name}: stopped" if stopped else f"{name}: was not being served")
