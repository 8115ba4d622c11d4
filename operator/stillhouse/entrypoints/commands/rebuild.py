"""`still rebuild`."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from stillhouse.entrypoints.options import name_argument, parse_sources, source_option

__all__ = ["command"]


@click.command()
@name_argument
@source_option
def command(name: str, sources: tuple[str, ...]) -> None:
    """Build a model again, also what is cached. What serves goes on serving; `still up FILE` puts the new one in place.

    \b
    Example:
      still rebuild docstring-search
    """
    from stillhouse.clients.store.local import LocalStore
    from stillhouse.entrypoints.local.building import build, holding
    from stillhouse.entrypoints.local.display import showing
    from stillhouse.entrypoints.local.workspace import open_file
    from stillhouse.errors import UsageError
    from stillhouse.settings import load_settings

    store = LocalStore(load_settings().home)
    state = store.state(name)
    if not state:
        raise UsageError(
            "there is no such model",
            field="NAME",
            found=name,
            allowed=", ".join(store.model_names()) or "none yet",
            fix="still up FILE",
        )
    if state.get("revision") and not state.get("steps"):
        raise UsageError(
            "this model was not built here: it came as a file of still pack",
            field="NAME",
            found=name,
            fix=f"still rebuild {name}, then still pack {name}, where it is built",
        )
    with showing() as listener, holding(store, name, listener):
        path = Path(state["file"])
        with listener.busy("sources") as progress:
            work = open_file(path, parse_sources(sources), progress)
        if work.name != name:
            raise UsageError(
                "the file describes another model now",
                field=f"{path}: metadata.name",
                found=work.name,
                allowed=name,
                fix=f"still up {path}",
            )
        # Only now does what was built count as old: a mistake in the file has been told above.
        store.write_state(name, {**store.state(name), "rebuild": secrets.token_hex(8)})
        revision = build(work, listener)
    click.echo(f"{name}: {revision['digest']} ({revision['precision']}); serve it with: still up {state['file']}")
