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
    stopped = servers.stop(store, name)
    click.echo(f"{name}: stopped" if stopped else f"{name}: was not being served")
