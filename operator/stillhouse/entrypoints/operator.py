"""The operator's command: `python -m stillhouse.entrypoints.operator`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any

import click

from stillhouse.errors import StillhouseError, UsageError

__all__ = ["main"]


@click.command()
@click.option("--namespace", default="", help="Namespace to work in; left out, the whole cluster.")
@click.option("--lease-namespace", default=lambda: os.environ.get("POD_NAMESPACE", "stillhouse"), help="Where the Lease lies.")
@click.option("--lease-name", default="stillhouse-operator", help="Name of the Lease.")
@click.option("--identity", default=lambda: os.environ.get("POD_NAME", socket.gethostname()), help="Who holds it.")
@click.option("--context", default="", help="Context of the kubeconfig; in a pod its service account is used.")
@click.option("--host", default="0.0.0.0", help="Address of /healthz, /readyz and /metrics.")  # noqa: S104
@click.option("--port", default=8080, help="Port of them.")
@click.option("--settings", type=click.Path(dir_okay=False, path_type=Path), help="JSON file with the administrator's settings.")
@click.option("--resync-seconds", "resync_s", default=600.0, help="Time between two lists, which find what a watch missed.")
@click.option("--silence-seconds", "silence_s", default=70.0, help="After that long without a bookmark a watch is begun anew.")
@click.option("--agreement-seconds", "agreement_s", default=60.0, help="Time between two looks at the agreement of gateways.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", help="What is logged.")
def main(settings: Path | None, log_level: str, **given: Any) -> None:
    """Watch DistilledModels and keep each as its resource asks.

    \b
    Example:
      python -m stillhouse.entrypoints.operator --namespace default --lease-namespace default --host 127.0.0.1
    """
    from stillhouse.entrypoints.cluster.logs import set_up
    from stillhouse.entrypoints.cluster.process import Options, run

    set_up(log_level.upper())
    try:
        options = Options(**given, settings=_settings(settings))
        code = asyncio.run(run(options))
    except StillhouseError as error:
        logging.getLogger(__name__).error("%s", error)
        code = error.exit_code
    logging.shutdown()
    sys.exit(code)


def _settings(path: Path | None) -> Any:
    """Read the settings that the chart renders.

    Raises:
        UsageError: the file is not what it must be.
    """
    import dataclasses

    from stillhouse.resources.wanted import ClusterSettings

    if path is None:
        return ClusterSettings()
    known = [field.name for field in dataclasses.fields(ClusterSettings)]
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError("the settings cannot be read", field=str(path), found=str(error)[:200]) from error
    if not isinstance(data, dict) or set(data) - set(known):
        strange = ", ".join(sorted(set(data) - set(known))) if isinstance(data, dict) else type(data).__name__
        raise UsageError("the settings hold what nobody knows", field=str(path), found=strange, allowed=", ".join(known))
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    return ClusterSettings(**values)


if __name__ == "__main__":
    main()
