"""The command of the bridge: `python -m stillhouse.entrypoints.bridge`."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from pathlib import Path

import click

from stillhouse.entrypoints.backends import address_of, models_of
from stillhouse.errors import MissingPackages, StillhouseError, UsageError
from stillhouse.extras import install

__all__ = ["main"]

_PATH = click.Path(path_type=Path)
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@click.command()
@click.option("--broker", "url", required=True, metavar="URL", help="mqtts://HOST[:8883], or mqtt://HOST[:1883] in the clear.")
@click.option("--model", "models", multiple=True, metavar="NAME=ADDRESS[@WEIGHT],…", help="A model's backends.")
@click.option("--slices", "services", multiple=True, metavar="NAME=NAMESPACE/SERVICE:PORT", help="The same, in a cluster.")
@click.option("--name", default=socket.gethostname, help="This bridge's name at the broker; the same after a restart.")
@click.option("--group", default="stillhouse", help="Bridges of one group share the requests.")
@click.option("--requests", "asked", default="stillhouse/infer", help="Prefix of the topics of requests: PREFIX/MODEL/DEVICE.")
@click.option(
    "--answers", default="stillhouse/answers", help="Prefix of the topics of answers: PREFIX/DEVICE/…; no others are used."
)
@click.option("--username-file", type=_PATH, help="File with the user's name at the broker.")
@click.option("--password-file", type=_PATH, help="File with the password.")
@click.option("--authority", type=_PATH, help="Who signed the broker's certificate; left out, the system's authorities.")
@click.option("--certificate", type=_PATH, help="Certificate to show to the broker.")
@click.option("--key", type=_PATH, help="Its key.")
@click.option("--backend-tls/--no-backend-tls", default=False, help="Whether backends are spoken to over TLS.")
@click.option("--backend-authority", type=_PATH, help="Whose certificates backends have; left out, the system's authorities.")
@click.option("--backend-name", default="", help="Whom backends' certificates have to name; left out, their address.")
@click.option("--backend-token", type=_PATH, help="File with the token that is shown to backends.")
@click.option("--metrics", metavar="ADDRESS", help="Where /metrics, /healthz and /readyz are answered; left out, nowhere.")
@click.option("--at-once", type=click.IntRange(1, 65535), default=64, help="Requests under way; the broker keeps the others.")
@click.option("--largest-message", type=click.IntRange(1, 128 << 20), default=8 << 20, help="Bytes of a request or an answer.")
@click.option("--longest", type=click.FloatRange(min=0, min_open=True), default=600.0, help="Seconds that any request may take.")
@click.option("--session", type=click.IntRange(0, 0xFFFFFFFE), default=300, help="Seconds that the broker waits for this bridge.")
@click.option("--stay", is_flag=True, help="At the end, have the broker keep new requests for this bridge: one alone, back soon.")
@click.option("--grace", default=30.0, help="Seconds that requests under way have at the end.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", help="What is logged.")
def main(
    url: str,
    models: tuple[str, ...],
    services: tuple[str, ...],
    name: str,
    group: str,
    asked: str,
    answers: str,
    username_file: Path | None,
    password_file: Path | None,
    authority: Path | None,
    certificate: Path | None,
    key: Path | None,
    backend_tls: bool,
    backend_authority: Path | None,
    backend_name: str,
    backend_token: Path | None,
    metrics: str | None,
    at_once: int,
    largest_message: int,
    longest: float,
    session: int,
    stay: bool,
    grace: float,
    log_level: str,
) -> None:
    """Answer requests that come over MQTT 5, by asking servers of the Open Inference Protocol.

    \b
    Example:
      python -m stillhouse.entrypoints.bridge --broker mqtts://broker.example --model search=10.0.0.5:8001 \\
        --username-file /etc/bridge/username --password-file /etc/bridge/password
    """
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        if not models and not services:
            raise UsageError("there is nobody to ask", field="--model", fix="name a model and its backends")
        backends = models_of(models)
        door = address_of(metrics, "--metrics") if metrics else None
        for field, pair in (
            ("--username-file, --password-file", (username_file, password_file)),
            ("--certificate, --key", (certificate, key)),
        ):
            if (pair[0] is None) != (pair[1] is None):
                raise UsageError("these belong together", field=field, fix="give both, or neither")
        try:
            from stillhouse.edge.mqtt.bridge import Bridge, BridgeSettings
            from stillhouse.entrypoints.bridging import Behind, bridging, services_of
        except ModuleNotFoundError as error:
            raise MissingPackages(f"the package {error.name} is missing", fix=install("mqtt")) from error
        from stillhouse.edge.certificates import towards
        from stillhouse.edge.mqtt.broker import Credentials, broker
        from stillhouse.edge.mqtt.topics import Topics

        where = broker(
            url,
            authority=authority,
            own=(certificate, key) if certificate and key else None,
            credentials=Credentials(username_file, password_file) if username_file and password_file else None,
        )
        tls = towards(backend_authority, None) if backend_tls else None
        behind = Behind(backends, services_of(services), tls, backend_name, backend_token)
        settings = BridgeSettings(
            name,
            Topics(asked, answers),
            group,
            at_once,
            largest_message,
            longest_s=longest,
            session_s=session,
            grace_s=grace,
            stay=stay,
        )

        def told(bridge: Bridge) -> None:
            named = ", ".join((*behind.models, *behind.services))
            click.echo(f"bridging {named}" if bridge.ready else "the broker is not there yet; trying again")

        async def work() -> None:
            stop = asyncio.Event()
            for number in _SIGNALS:
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            await bridging(where, settings, behind, stop, told, door=door)

        import uvloop

        uvloop.run(work())
    except StillhouseError as error:
        for problem in error.problems:
            click.echo("error: " + "\n".join(problem.lines()), err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
