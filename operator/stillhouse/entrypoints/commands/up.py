"""`still up`: build, serve, stay."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from stillhouse.entrypoints.options import file_argument, parse_sources, source_option

__all__ = ["command"]

POLL_SECONDS = 0.5


@click.command()
@file_argument
@source_option
@click.option("--detach", is_flag=True, help="Leave the server running and return.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="gRPC port on loopback; 0 takes any. Default: the model's last one, else from 8001 up.",
)
def command(file: Path, sources: tuple[str, ...], detach: bool, port: int | None) -> None:
    """Build what is missing, serve it, and stay until Ctrl-C.

    What is built already is not built again. A new version takes the port over from the old one when it is warm; when
    its gate fails, the old version goes on serving.

    \b
    Example:
      still up examples/docstring-search/distilledmodel.yaml
      still up --detach --port 9000 distilledmodel.yaml
    """
    from stillhouse.entrypoints.local import servers, state
    from stillhouse.entrypoints.local.building import build
    from stillhouse.entrypoints.local.display import showing
    from stillhouse.entrypoints.local.workspace import open_file
    from stillhouse.errors import StillhouseError

    work = open_file(file, parse_sources(sources))
    with showing() as listener:

        def waiting(holder: str) -> None:
            listener.note(f"another `still` (pid {holder or 'unknown'}) is building {work.name}; waiting for it")

        with work.store.model(work.name, on_wait=waiting):
            try:
                revision = build(work, listener)
            except StillhouseError:
                running = servers.find(work.store, work.name)
                if running is not None:
                    listener.note(f"{running.revision[7:19]} ({running.precision}) goes on serving at {running.handle.address}")
                raise
            with work.store.using():
                running, new = servers.serve(
                    work.store,
                    work.settings,
                    work.name,
                    revision,
                    port=port or None if port != 0 else 0,
                    supervisor=0 if detach else os.getpid(),
                    time=state.now(),
                )
    _say(work.name, running, revision, new=new)
    if not new and running.supervisor not in (0, os.getpid()):
        click.echo(f"It belongs to process {running.supervisor}; stop it there with Ctrl-C, or: still down {work.name}", err=True)
        return
    if detach:
        click.echo(f"Stop it with: still down {work.name}", err=True)
        return
    click.echo("Ctrl-C stops it.", err=True)
    _stay(work.store, work.name, running)


def _say(name: str, running: Any, revision: dict[str, Any], *, new: bool) -> None:
    from stillhouse.entrypoints.local.text import interval, size

    how = "serving" if new else "already serving"
    click.echo(
        f"{name}: {how} {running.revision[7:19]} ({running.precision}, {size(revision['size'])}) at {running.handle.address}",
        err=True,
    )
    for figure, value in revision["figures"].items():
        click.echo(f"  {figure:<22} {interval(figure, value)}", err=True)
    click.echo(f'Ask it: still infer {name} "…"', err=True)


def _stay(store: Any, name: str, running: Any) -> None:
    """Wait for Ctrl-C, a successor, or the server's death."""
    from stillhouse.entrypoints.local import servers

    try:
        while running.handle.alive():
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        click.echo(f"\nstopping {name} ...", err=True)
        if not running.handle.stop():
            click.echo("it did not stop in time and was killed", err=True)
        sys.exit(130)
    current = servers.find(store, name)
    if current is not None:
        click.echo(f"{name}: another process now serves {current.revision[7:19]} at {current.handle.address}", err=True)
        return
    if servers.stopped_on_purpose(store, name):
        click.echo(f"{name}: stopped", err=True)
        return
    running.handle.check()  # raises, with the last lines of the log
