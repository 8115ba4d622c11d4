"""The command of the gateway: `python -m stillhouse.entrypoints.gateway`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stillhouse import __version__
from stillhouse.entrypoints.backends import address_of, models_of
from stillhouse.errors import EnvironmentProblem, StillhouseError, UsageError

if TYPE_CHECKING:
    from stillhouse.edge.gateway import Options
    from stillhouse.edge.tracing.spans import Telemetry

__all__ = ["main"]

_PATH = click.Path(path_type=Path)
_ADDRESSES = {"grpc": "--listen", "rest": "--rest", "metrics": "--metrics"}
_PORTS = {"grpc": "--port", "rest": "--rest-port", "metrics": "--metrics-port"}
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@click.command()
@click.option("--config", type=_PATH, help="A file of still edge or the operator, in the place of most options here.")
@click.option("--verify", is_flag=True, help="Hold every byte of the artifacts that the file names against their digests first.")
@click.option("--record", type=_PATH, help="Where this process and its doors are written down while it listens.")
@click.option("--model", "models", multiple=True, metavar="NAME=ADDRESS[@WEIGHT],…", help="A model's backends.")
@click.option("--listen", default="127.0.0.1:8001", help="Address and port to listen on; port 0 takes any free one.")
@click.option("--tls-certificate", type=_PATH, help="Certificate to show to clients; it is read anew when it changes.")
@click.option("--tls-key", type=_PATH, help="Its key.")
@click.option("--tls-client-authority", type=_PATH, help="Clients must show a certificate of this authority.")
@click.option("--backend-tls/--no-backend-tls", default=False, help="Whether backends are spoken to over TLS.")
@click.option("--backend-authority", type=_PATH, help="Whose certificates backends have; left out, the system's authorities.")
@click.option("--largest-message", default=64 << 20, help="Bytes of a request or an answer.")
@click.option("--connection-age", default=0.0, help="Seconds after which a client is asked to connect anew; 0: never.")
@click.option("--metrics", metavar="ADDRESS", help="Where /metrics, /healthz and /readyz are answered; left out, nowhere.")
@click.option("--rest", metavar="ADDRESS", help="Where REST is spoken too; the address of --listen: on the same port.")
@click.option("--telemetry", metavar="URL", help="An OTLP collector for spans; left out, what OTEL_EXPORTER_OTLP_ENDPOINT says.")
@click.option("--telemetry-sample", type=click.FloatRange(0, 1), default=1.0, help="Share of traces that begin here.")
@click.option("--tokens", type=_PATH, help="Folder with a file for each client that may ask: its name, and in it its token.")
@click.option("--client-rate", type=click.FloatRange(min=0, min_open=True), help="Inferences a second of one client.")
@click.option("--client-burst", type=click.IntRange(1), default=100, help="Of these, how many at once.")
@click.option("--client-concurrency", type=click.IntRange(1), help="Inferences of one client that are under way.")
@click.option("--audit", type=_PATH, help="Folder of an audit log of this process alone; `still audit verify` reads it.")
@click.option("--audit-key", type=_PATH, help="File with its key; left out, records have hashes alone.")
@click.option("--audit-required/--audit-best-effort", default=False, help="Whether nothing is answered without a record.")
@click.option("--in-flight", default=512, help="Inferences at once; more are refused. 0: as many as their latency says.")
@click.option("--grace", default=30.0, help="Seconds that calls under way have at the end.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", help="What is logged.")
def main(
    config: Path | None,
    verify: bool,
    record: Path | None,
    models: tuple[str, ...],
    listen: str,
    tls_certificate: Path | None,
    tls_key: Path | None,
    tls_client_authority: Path | None,
    backend_tls: bool,
    backend_authority: Path | None,
    largest_message: int,
    connection_age: float,
    metrics: str | None,
    rest: str | None,
    telemetry: str | None,
    telemetry_sample: float,
    tokens: Path | None,
    client_rate: float | None,
    client_burst: int,
    client_concurrency: int | None,
    audit: Path | None,
    audit_key: Path | None,
    audit_required: bool,
    in_flight: int,
    grace: float,
    log_level: str,
) -> None:
    """Stand before servers of the Open Inference Protocol and pass requests on to the least busy one.

    \b
    Example:
      python -m stillhouse.entrypoints.gateway --model search=127.0.0.1:9001,127.0.0.1:9002@0.5 --listen 127.0.0.1:8001
    """
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        from stillhouse.edge.certificates import Files, Front, towards
        from stillhouse.edge.gateway import Options
        from stillhouse.edge.guard.clients import Clients
        from stillhouse.edge.guard.limits import Limits as Each
        from stillhouse.edge.screening.settings import AuditSettings
        from stillhouse.edge.wire.call import Limits

        if config is not None:
            if models:
                raise UsageError("a file names the model", field="--model", fix="leave out --model, or --config")
            options = _of_file(config, grace, connection_age)
            if verify and options.config is not None:
                from stillhouse.entrypoints.edge.verified import verify as hold

                hold(options.config)
        else:
            if not models:
                raise UsageError("there is nothing to stand before", field="--model", fix="name a model, or give --config")
            host, port = address_of(listen, "--listen")
            front = None
            if tls_certificate or tls_key:
                if not (tls_certificate and tls_key):
                    raise UsageError("a certificate and its key belong together", field="--tls-certificate, --tls-key")
                front = Front(Files(tls_certificate, tls_key), tls_client_authority)
            options = Options(
                models=models_of(models),
                version=__version__,
                host=host,
                port=port,
                front=front,
                backend_tls=towards(backend_authority, None) if backend_tls else None,
                limits=Limits(message=largest_message, age_s=connection_age),
                grace_s=grace,
                in_flight=in_flight,
                clients=Clients(tokens),
                metrics=address_of(metrics, "--metrics") if metrics else None,
                rest=address_of(rest, "--rest") if rest else None,
                telemetry=_telemetry(telemetry, telemetry_sample),
                audit=AuditSettings(audit, audit_required, audit_key) if audit else None,
                each=Each(client_rate, client_burst, client_concurrency) if client_rate or client_concurrency else None,
            )
        _run(options, record, config)
    except StillhouseError as error:
        for problem in error.problems:
            click.echo("error: " + "\n".join(problem.lines()), err=True)
        sys.exit(error.exit_code)


def _of_file(file: Path, grace: float, connection_age: float) -> Options:
    """Return the options that a configuration file asks for."""
    from stillhouse.edge.certificates import Files, Front
    from stillhouse.edge.config import read
    from stillhouse.edge.gateway import Options
    from stillhouse.edge.guard.clients import Clients
    from stillhouse.edge.guard.limits import Limits as Each
    from stillhouse.edge.wire.call import Limits

    config = read(file)
    host, port = address_of(config.listen.grpc, "listen.grpc")
    each = config.clients
    tls = config.tls
    return Options(
        models={},
        config=config,
        version=__version__,
        host=host,
        port=port,
        front=Front(Files(tls.certificate, tls.key), tls.clientAuthority) if tls else None,
        limits=Limits(message=config.guard.maxMessageSize if config.guard else 64 << 20, age_s=connection_age),
        grace_s=grace,
        in_flight=config.maxInFlight,
        clients=Clients(each.tokens),
        metrics=address_of(config.listen.metrics, "listen.metrics") if config.listen.metrics else None,
        rest=address_of(config.listen.rest, "listen.rest") if config.listen.rest else None,
        telemetry=_telemetry(*((config.telemetry.endpoint, config.telemetry.sample) if config.telemetry else (None, 0.1))),
        each=Each(each.rate, each.burst or 100, each.concurrency) if each.rate or each.concurrency else None,
    )


def _telemetry(endpoint: str | None, sample: float) -> Telemetry | None:
    """Return where spans go: as it is said, else as OpenTelemetry's own variables say."""
    from stillhouse.edge.tracing.spans import Telemetry

    return Telemetry(endpoint, sample) if endpoint else Telemetry.of_environment(sample=sample)


def _run(options: Options, record: Path | None, config: Path | None) -> None:
    import uvloop

    from stillhouse.edge.gateway import DoorTaken, run
    from stillhouse.entrypoints.edge import record as records

    def told(doors: asyncio.Future[dict[str, str]]) -> None:
        if doors.cancelled():
            return
        if record is not None and options.config is not None:
            records.write(record, options.config.name, doors.result(), str(config), tls=options.front is not None)
        there = doors.result()
        click.echo(f"listening on {there['grpc']}")
        if record is not None:  # of still edge, which somebody reads
            others = {"REST": there.get("rest"), "metrics and status": there.get("metrics")}
            click.echo("; ".join(f"{what} on {where}" for what, where in others.items() if where))

    async def work() -> None:
        stop = asyncio.Event()
        for number in _SIGNALS:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue  # `nohup` wants it to outlive its terminal
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        listening: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        listening.add_done_callback(told)
        try:
            await run(options, stop, listening)
        except DoorTaken as error:
            ours = record is not None  # of still edge, whose options have other names
            raise EnvironmentProblem(
                "the gateway cannot listen",
                field=(_PORTS if ours else _ADDRESSES)[error.door],
                found=error.strerror or str(error),
                fix="name another port (0 takes any free one), or end what listens there",
            ) from error
        finally:
            listening.cancel()
            if record is not None:
                records.remove(record)

    # A thread of ours tokenises what waits; handing it on to a pool of the library's own costs more than it saves.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # The modules stay, and what a call leaves goes by its count of references: looking for circles as often as Python does by
    # default costs a seventh of the throughput, and pauses of milliseconds.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    with records.alone(record) if record is not None else contextlib.nullcontext():
        uvloop.run(work())


if __name__ == "__main__":
    main()
