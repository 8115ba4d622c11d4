"""The worker's command: `python -m stillhouse.entrypoints.worker build --stage=resolve`."""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from stillhouse.api.status import REASONS
from stillhouse.entrypoints import interrupts
from stillhouse.errors import GateError, StillhouseError
from stillhouse.planning.plan import STAGES

__all__ = ["main"]


@click.group()
def main() -> None:
    """Run by the operator's Jobs; by hand it is of use only to look for a mistake."""


@main.command()
@click.option("--stage", type=click.Choice(STAGES), required=True, help="The stage to run.")
@click.option("--store", type=click.Path(path_type=Path), default=Path("/store"), help="Where the store is mounted.")
@click.option(
    "--claims", type=click.Path(path_type=Path), default=Path("/claims"), help="Below it each claim that sources lie in."
)
@click.option("--work", type=click.Path(path_type=Path), default=Path("/work"), help="A folder of the pod's own.")
@click.option("--server", "socket", type=click.Path(path_type=Path), help="Socket of the container that serves the candidates.")
@click.option("--progress-port", type=click.IntRange(0, 65535), help="Where GET /progress is answered; left out: nowhere.")
@click.option("--host", default="0.0.0.0", help="Address that it listens at.")  # noqa: S104 - in a pod of its own
@click.option("--workers", type=click.IntRange(1), default=1, help="How many pods carry the stage out together.")
@click.option("--worker", type=click.IntRange(0), default=0, envvar="JOB_COMPLETION_INDEX", help="Which of them this is.")
@click.option("--meet", default="", help="HOST:PORT of number 0, where they meet.")
@click.option("--message", type=click.Path(path_type=Path), default=Path("/dev/termination-log"), help="Termination message.")
def build(
    stage: str,
    store: Path,
    claims: Path,
    work: Path,
    socket: Path | None,
    progress_port: int | None,
    host: str,
    workers: int,
    worker: int,
    meet: str,
    message: Path,
) -> None:
    """Run one stage; say in the termination message what follows, or why it failed."""
    from stillhouse.entrypoints.worker.stage import set_up

    set_up(store, work)
    from stillhouse.clients.store.local import LocalStore
    from stillhouse.entrypoints.local.display import showing
    from stillhouse.entrypoints.worker.cleaning import clean
    from stillhouse.entrypoints.worker.given import read
    from stillhouse.entrypoints.worker.progress import telling
    from stillhouse.entrypoints.worker.record import candidates, lineage
    from stillhouse.entrypoints.worker.record import message as written
    from stillhouse.entrypoints.worker.sidecar import Sidecar
    from stillhouse.entrypoints.worker.stage import follow_stage, run_stage
    from stillhouse.passes.base import Workers

    interrupts.listen()
    told: dict[str, Any]
    planned: dict[str, Any] = {}
    try:
        host_of, _, port = meet.rpartition(":")
        together = Workers(workers, worker, host_of, int(port or 0)) if workers > 1 else Workers()
        with showing() as shown, telling(stage, shown, None if together.index else progress_port, host) as listener:
            given = read(os.environ, claims)
            server = Sidecar(socket, given.server.cpus) if socket is not None and given.server is not None else None
            if given.needed is not None and not together.index:
                clean(LocalStore(store), given.needed, listener.note)
            if together.index:
                told, code = follow_stage(given, stage, work, listener, together), 0
            else:
                told, code = run_stage(given, stage, work, listener, server, planned, together), 0
    except StillhouseError as error:
        text = "\n".join(line for each in error.problems for line in replace(each, line=None).lines())  # the file was ours
        click.echo(text, err=True)
        told = {"stage": stage, "reason": error.reason if error.reason in REASONS else "BuildFailed", "message": text}
        if planned:
            told |= {"planHash": planned["planHash"], "record": {"lineage": lineage(planned["lineage"])}}
        if isinstance(error, GateError):
            told["record"] = {**told.get("record", {}), "candidates": candidates(error.report)}
        code = error.exit_code
    except KeyboardInterrupt:
        sys.exit(143)  # the next pod goes on from there; this one says nothing
    except Exception as error:
        traceback.print_exc()
        told, code = {"stage": stage, "reason": "BuildFailed", "message": f"{type(error).__name__}: {error}"[:1000]}, 1
    try:
        message.write_bytes(written(told))
    except OSError as error:
        click.echo(f"the termination message cannot be written: {error}", err=True)
        code = code or 5
    sys.exit(code)


if __name__ == "__main__":
    main()
