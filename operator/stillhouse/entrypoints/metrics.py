"""The command of the metrics API: `python -m stillhouse.entrypoints.metrics`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Any

import click

from stillhouse.errors import StillhouseError

__all__ = ["main"]

_LEVELS = click.Choice(["debug", "info", "warning", "error"])


@click.group()
def main() -> None:
    """Tell autoscalers how many replicas models want (external.metrics.k8s.io)."""


def _place(command: Any) -> Any:
    for option in (
        click.option("--own-namespace", default=lambda: os.environ.get("POD_NAMESPACE", "stillhouse"), help="Where it runs."),
        click.option("--service", default="stillhouse-metrics", help="Service by which the API server reaches it."),
        click.option("--service-port", default=443, help="Port of that Service."),
        click.option("--secret", default="stillhouse-metrics", help="Secret that holds its certificate; it must be there."),
        click.option("--context", default="", help="Context of the kubeconfig; in a pod its service account is used."),
        click.option("--log-level", type=_LEVELS, default="info", help="What is logged."),
    ):
        command = option(command)
    return command


@main.command()
@_place
@click.option("--namespace", default="", help="Namespace whose models are looked at; left out, the whole cluster.")
@click.option("--host", default="0.0.0.0", help="Address to listen on.")  # noqa: S104
@click.option("--port", default=8443, help="Port of the metrics API (TLS).")
@click.option("--plain-port", default=8080, help="Port of probes, of /metrics and of /signals.")
@click.option("--pod-port", default=8002, help="Port of the pods' metrics.")
@click.option("--use-percent", type=click.IntRange(1, 100), default=70, help="Share of a pod's instances that is to be busy.")
@click.option("--drain-seconds", type=click.FloatRange(0.1, 600), default=5.0, help="Within how long what waits is to be gone.")
@click.option("--register/--no-register", default=True, help="Whether to be the cluster's external metrics where that is free.")
def serve(log_level: str, use_percent: int, drain_seconds: float, **given: Any) -> None:
    """Scrape serving pods and answer autoscalers.

    \b
    Example:
      python -m stillhouse.entrypoints.metrics serve --own-namespace stillhouse --host 127.0.0.1
    """
    from stillhouse.entrypoints.cluster.metrics_api import Options, run
    from stillhouse.scaling.wanted import Aim

    place = _placed(given)
    options = Options(place=place, aim=Aim(use_percent / 100, drain_seconds), **given)
    _end(log_level, run(options))


@main.command()
@_place
def unregister(log_level: str, **given: Any) -> None:
    """Remove our APIService, before what serves it goes: a dead one keeps every namespace from ending.

    \b
    Example:
      python -m stillhouse.entrypoints.metrics unregister --own-namespace stillhouse
    """
    from stillhouse.entrypoints.cluster.metrics_api import leave

    place = _placed(given)
    _end(log_level, leave(place, given["context"]))


def _placed(given: dict[str, Any]) -> Any:
    from stillhouse.scaling.registration import Place

    return Place(given.pop("own_namespace"), given.pop("service"), given.pop("secret"), given.pop("service_port"))


def _end(log_level: str, work: Any) -> None:
    from stillhouse.entrypoints.cluster.logs import set_up

    set_up(log_level.upper())
    try:
        code = asyncio.run(work)
    except StillhouseError as error:
        logging.getLogger(__name__).error("%s", error)
        code = error.exit_code
    logging.shutdown()
    sys.exit(code)


if __name__ == "__main__":
    main()
