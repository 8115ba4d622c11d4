"""`still pack`."""

from __future__ import annotations

from pathlib import Path

import click

from stillhouse.entrypoints.options import name_argument

__all__ = ["command"]


@click.command()
@name_argument
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="File (….still.tar) or folder; NAME.still.tar here if left out."
)
def command(name: str, out: Path | None) -> None:
    """Write what was built of a model to one file.

    It is for a machine that builds nothing, and holds the model, its cascade and the file that asked for them.
    `still edge FILE` there verifies every content.

    \b
    Example:
      still pack docstring-search
      still pack docstring-search -o /media/usb
      still edge docstring-search.still.tar --cloud grpcs://cloud.example:443
    """
    from stillhouse.clients.store.local import LocalStore
    from stillhouse.entrypoints.edge.packing import pack, target_of
    from stillhouse.settings import load_settings
    from stillhouse.sizes import size

    target = target_of(name, out)
    written, remarks = pack(LocalStore(load_settings().home), name, target)
    for each in remarks:
        click.secho(f"{name}: {each}", fg="yellow", err=True)
    click.echo(f"{target}: {size(written)}", err=True)
