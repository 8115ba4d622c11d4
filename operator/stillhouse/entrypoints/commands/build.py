"""`still build`."""

from __future__ import annotations

from pathlib import Path

import click

from stillhouse.entrypoints.options import emit, file_argument, output_option, parse_sources, source_option

__all__ = ["command"]


@click.command()
@file_argument
@source_option
@output_option
def command(file: Path, sources: tuple[str, ...], output: str) -> None:
    """Build what is missing; serve nothing.

    Prints the revision that was accepted, with its figures.

    \b
    Example:
      still build examples/docstring-search/distilledmodel.yaml
      still build -o json distilledmodel.yaml | jq -r .digest
    """
    from stillhouse.entrypoints.local.building import build, holding
    from stillhouse.entrypoints.local.display import showing
    from stillhouse.entrypoints.local.text import cut, interval, size
    from stillhouse.entrypoints.local.workspace import open_file

    with showing() as listener:
        with listener.busy("sources") as progress:
            work = open_file(file, parse_sources(sources), progress)
        with holding(work.store, work.name, listener):
            revision = build(work, listener)

    def text() -> None:
        click.echo(f"{work.name}: {revision['digest']} ({revision['precision']}, {size(revision['size'])})")
        for name, figure in revision["figures"].items():
            click.echo(f"  {name:<22} {interval(name, figure)}")
        if revision["truncated"]:
            click.echo(f"  {'text':<22} {cut(revision['truncated'])}")

    emit({"name": work.name, **revision}, output, text)
