"""`still plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stillhouse.entrypoints.options import console, emit, file_argument, output_option, parse_sources, source_option

__all__ = ["command"]


@click.command()
@file_argument
@source_option
@output_option
def command(file: Path, sources: tuple[str, ...], output: str) -> None:
    """Show each step, why it runs or is cached, and what it will cost.

    Nothing is built. Times, memory and disk are estimates: times from this machine's own receipts where there are any, disk from
    the shape, vocabulary and precision of what is made. Disk is what stays in the store: a training's checkpoints come and go.

    \b
    Example:
      still plan examples/docstring-search/distilledmodel.yaml
    """
    from stillhouse.entrypoints.local.display import showing
    from stillhouse.entrypoints.local.planned import describe
    from stillhouse.entrypoints.local.text import duration, size
    from stillhouse.entrypoints.local.workspace import open_file

    with showing() as listener, listener.busy("sources") as progress:
        work = open_file(file, parse_sources(sources), progress)
    data = describe(work)

    def text() -> None:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column, right in (
            ("STEP", False),
            ("STATE", False),
            ("WHY", False),
            ("TIME", True),
            ("MEMORY", True),
            ("DISK", True),
        ):
            table.add_column(column, justify="right" if right else "left", no_wrap=column == "STEP", overflow="fold")
        for step in data["steps"]:
            cached = step["state"] == "cached"
            cost: list[Any] = (
                ["", "", ""] if step["state"] != "run" else [duration(step["seconds"]), size(step["memory"]), size(step["disk"])]
            )
            table.add_row(step["id"], step["state"], step["why"], *cost, style="dim" if cached else None)
        console().print(table)
        total = data["total"]
        click.echo()
        click.echo(f"request {data['requestHash'][:12]}  plan {data['planHash'][:12]}")
        if total["steps"]:
            click.echo(
                f"{total['steps']} to run: about {duration(total['seconds'])}, up to {size(total['memory'])} of memory,"
                f" about {size(total['disk'])} of disk" + (" (sizes guessed)" if total["guessed"] else "")
            )
        else:
            click.echo("nothing to run")
        for note in data["notes"]:
            click.echo(f"note: {note}")

    emit(data, output, text)
