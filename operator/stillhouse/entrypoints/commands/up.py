"""`still up`: build, serve, stay."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillhouse.entrypoints import interrupts
from stillhouse.entrypoints.options import file_argument, parse_sources, source_option

if TYPE_CHECKING:
    from stillhouse.clients.store.local import LocalStore
    from stillhouse.entrypoints.local.servers import Running
    from stillhouse.entrypoints.local.workspace import Workspace

__all__ = ["command"]

POLL_SECONDS = 0.5
LOOK_SECONDS = 2.0
"""Between two looks at the server's backend, whose death it does not tell."""


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
    its gate fails, the old version goes on serving. Ctrl-C stops what this command started: a server that --detach left
    running goes on.

    \b
    Example:
      still up examples/docstring-search/distilledmodel.yaml
      still up --detach --port 9000 distilledmodel.yaml
    """
    from stillhouse.entrypoints.local import servers
    from stillhouse.entrypoints.local.display import showing
    from stillhouse.entrypoints.local.modelless import require_model
    from stillhouse.entrypoints.local.workspace import open_file

    with showing() as listener, listener.busy("sources") as progress:
        work = open_file(file, parse_sources(sources), progress)
    require_model(work.model, file, "serves")
    pinned = work.model.spec.serve.pin
    own = 0 if detach else os.getpid()
    attached = False
    try:
        running, revision, new = _serve(work, pinned, port, own)
        if not new:
            running = _adopt(work.store, work.name, running, own)
        attached = bool(own) and running.supervisor == 0
        _say(work.store, work.name, running, revision, new=new)
        if pinned:
            click.echo("note: spec.serve.pin holds this revision; nothing was built", err=True)
        if detach and not running.supervised:
            click.echo(f"Stop it with: still down {work.name}", err=True)
            return
        if attached:
            click.echo(f"It was started with --detach: Ctrl-C leaves it running, still down {work.name} stops it.", err=True)
        elif running.supervisor != own:
            click.echo(
                f"It belongs to process {running.supervisor}; stop it there with Ctrl-C, or: still down {work.name}", err=True
            )
            return
        else:
            click.echo("Ctrl-C stops it.", err=True)
        _stay(work.store, work.name, running, own)
    except (KeyboardInterrupt, OSError) as reason:  # OSError: nobody reads what we say (`| tee log` was ended before us)
        interrupts.ignore()  # a terminal that closes sends SIGHUP twice, and half a stop would leave the server running
        mine = servers.find(work.store, work.name)
        if mine is not None and own and mine.supervisor == own:
            _stop(work.name, mine)
        elif mine is None or not attached or isinstance(reason, OSError):
            raise  # while it was being built: what served before goes on
        else:
            _tell(f"\n{work.name} goes on serving; stop it with: still down {work.name}")
        if isinstance(reason, OSError):
            raise
        raise click.exceptions.Exit(130) from None


def _serve(work: Workspace, pinned: str | None, port: int | None, own: int) -> tuple[Running, dict[str, Any], bool]:
    """Build (or take the pinned revision) and serve; return the server, its revision, and whether it was started now."""
    from stillhouse.entrypoints.local import servers, state
    from stillhouse.entrypoints.local.building import build, holding
    from stillhouse.entrypoints.local.display import showing
    from stillhouse.errors import StillhouseError

    store, name = work.store, work.name
    with showing() as listener, holding(store, name, listener):
        servers.require_port(store, name, port)
        try:
            revision = state.held(store, name, pinned) if pinned else build(work, listener)
        except (StillhouseError, KeyboardInterrupt):
            running = servers.find(store, name)
            if running is not None:
                listener.note(f"{running.revision[7:19]} ({running.precision}) goes on serving at {running.handle.address}")
            raise
        former = servers.find(store, name)
        with store.using(), listener.busy("server"):
            running, new = servers.serve(
                store,
                work.settings,
                name,
                revision,
                port=port,
                supervisor=own,
                time=state.now(),
                note=listener.note,
            )
        if pinned:
            state.pinned(store, name, pinned)
        if new and own and former is not None and former.supervisor == 0:
            listener.note("it replaces the server that --detach left running, but ends with this command")
    return running, revision, new


def _adopt(store: LocalStore, name: str, running: Running, own: int) -> Running:
    """Take on a server that runs already and whose own `still up` has gone; one that was detached is nobody's."""
    from stillhouse.entrypoints.local import servers

    if running.supervised or running.supervisor in (0, own):
        return running
    return servers.supervise(store, name, running, own)


def _say(store: LocalStore, name: str, running: Running, revision: dict[str, Any], *, new: bool) -> None:
    from stillhouse.entrypoints.local.text import cut, interval, size
    from stillhouse.inference.signature import Signature

    how = "serving" if new else "already serving"
    click.echo(
        f"{name}: {how} {running.revision[7:19]} ({running.precision}, {size(revision['size'])}) at {running.handle.address}",
        err=True,
    )
    for figure, value in revision["figures"].items():
        click.echo(f"  {figure:<22} {interval(figure, value)}", err=True)
    if revision.get("truncated"):
        click.echo(f"  {'text':<22} {cut(revision['truncated'])}", err=True)
    signature = Signature.read(store.objects.path(running.revision))
    asked = {"IMAGE": "IMAGE.png", "FEATURES": "< ROWS.jsonl", "TEXT": '"…"'}[signature.tensor]
    click.echo(f"Ask it: still infer {name} {asked}", err=True)


def _stop(name: str, mine: Running) -> None:
    """Stop the server that this command started, whoever is left to hear of it."""
    _tell(f"\nstopping {name} ...")
    if not mine.handle.stop():
        _tell("it did not stop in time and was killed")


def _tell(text: str) -> None:
    """Say something, if there is still somebody: `| tee log` dies of the same Ctrl-C, a closed terminal takes no words."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def _stay(store: LocalStore, name: str, running: Running, own: int) -> None:
    """Wait for a successor, `still down`, or the death of the server or its backend."""
    from stillhouse.entrypoints.local import servers
    from stillhouse.errors import ServerError

    looked = time.monotonic()
    while running.handle.alive():
        time.sleep(POLL_SECONDS)
        if time.monotonic() - looked < LOOK_SECONDS:
            continue
        looked = time.monotonic()
        try:
            running.handle.check()
        except ServerError:
            current = servers.find(store, name)
            if current is None or current.handle.pid != running.handle.pid:
                break  # it is being stopped, or has a successor
            if current.supervisor == own:
                running.handle.stop(0.0)  # it would go on saying that it is ready
            raise
    current = servers.find(store, name)
    if current is not None:
        click.echo(f"{name}: another process now serves {current.revision[7:19]} at {current.handle.address}", err=True)
        return
    if servers.stopped_on_purpose(store, name):
        click.echo(f"{name}: stopped", err=True)
        return
    running.handle.check()  # raises, with the last lines of the log
