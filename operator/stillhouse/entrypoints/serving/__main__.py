"""The serving pod's command: `python -m stillhouse.entrypoints.serving serve --model … --digest …`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import click

from stillhouse.errors import StillhouseError, UsageError

__all__ = ["SETTINGS_VARIABLE", "main"]

SETTINGS_VARIABLE = "STILLHOUSE_SERVE"


@click.group()
def main() -> None:
    """Run by the pods of a Deployment that the operator has made."""


@main.command()
@click.option("--model", required=True, help="Name of the model on the wire.")
@click.option("--digest", required=True, help="Digest of the artifact.")
@click.option("--precision", default="", help="Its precision, for the provenance of answers.")
@click.option("--cut", default="", help="Digest of its halves, where its upper half is served too.")
@click.option("--store", type=click.Path(path_type=Path), required=True, help="The store, mounted read-only.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("/work"), help="A folder of the pod's own.")
@click.option("--host", default="0.0.0.0", help="Address to listen at.")  # noqa: S104
@click.option("--grpc-port", default=8001, help="Port of the model.")
@click.option("--health-port", default=8000, help="Port of /ready and /live.")
@click.option("--metrics-port", default=8002, help="Port of /metrics: Triton's and the pod's CPU time.")
def serve(**given: Any) -> None:
    """Verify an artifact and serve it until SIGTERM; then answer what is under way."""
    from stillhouse.entrypoints.serving.server import Pod
    from stillhouse.entrypoints.serving.server import serve as run

    stop = _told_to_stop()
    try:
        run(Pod(**given, settings=_settings(os.environ.get(SETTINGS_VARIABLE, ""))), stop)
    except StillhouseError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)


@main.command()
@click.option("--store", type=click.Path(path_type=Path), required=True, help="The store, mounted read-only.")
@click.option(
    "--socket", type=click.Path(path_type=Path), required=True, help="Where the worker of the gate asks for a candidate."
)
@click.option("--work", type=click.Path(path_type=Path), default=Path("/work"), help="A folder of the container's own.")
def candidates(store: Path, socket: Path, work: Path) -> None:
    """Serve the candidates of a gate, one after the other, until SIGTERM. Only the worker of the same pod can ask."""
    from stillhouse.entrypoints.serving.measured import serve_candidates

    serve_candidates(socket, store, work, _told_to_stop())


def _told_to_stop() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _settings(text: str) -> dict[str, Any]:
    from stillhouse.api.serve import Serve
    from stillhouse.planning.request import serve_config

    defaults = serve_config(Serve())
    if not text:
        return defaults
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UsageError("the settings are no JSON", field=SETTINGS_VARIABLE, found=str(error)) from error
    known = serve_config(Serve(runtime="triton-nvidia"))
    if not isinstance(data, dict) or set(data) - set(known):
        raise UsageError(
            "the settings are another version's", field=SETTINGS_VARIABLE, found=text[:200], allowed=", ".join(known)
        )
    return {**defaults, **data}


if __name__ == "__main__":
    main()
