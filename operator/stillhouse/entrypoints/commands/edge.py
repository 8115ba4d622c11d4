"""`still edge`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillhouse.entrypoints.options import emit, output_option

if TYPE_CHECKING:
    from stillhouse.entrypoints.edge.preparing import Prepared

__all__ = ["command"]

_PATH = click.Path(path_type=Path)
_GRACE_S = 40.0
_LOOK_S = 2.5


class _FileOrCommand(click.Group):
    """`still edge FILE` beside `still edge status`: a first word that is no subcommand is the file."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Take FILE for `still edge run FILE`."""
        if args and args[0] not in self.commands:
            return "run", self.commands["run"], args
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave options to the subcommand, also where they stand before the file."""
        if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_FileOrCommand, subcommand_metavar="FILE [OPTIONS] | status [NAME] | stop NAME")
def command() -> None:
    """Run a model and its gateway on this machine.

    The larger model is asked where this one is not sure.
    No Triton and no torch are needed: the model runs in the gateway's own process. `still edge run --help` shows the options.

    \b
    Example:
      still edge distilledmodel.yaml --cloud grpcs://cloud.example:443
      still edge status
      still edge stop docstring-search
    """


@command.command()
@click.argument("file", type=_PATH)
@click.option(
    "--cloud",
    metavar="grpcs://HOST:PORT",
    help="Where the larger model is; mqtts://HOST:PORT: behind a broker. Left out: as FILE says, or as still up serves.",
)
@click.option("--cloud-authority", type=_PATH, help="Whose certificate the larger model has; left out, the system's authorities.")
@click.option("--cloud-username-file", type=_PATH, help="File with the user's name at the broker; read anew for each connection.")
@click.option("--cloud-password-file", type=_PATH, help="File with the password at the broker.")
@click.option("--cloud-certificate", type=_PATH, help="Certificate to show to the broker.")
@click.option("--cloud-key", type=_PATH, help="Its key.")
@click.option(
    "--cloud-device", metavar="NAME", help="Name at the broker, of this gateway alone; left out, the user's or the machine's."
)
@click.option("--middle", metavar="grpcs://HOST:PORT", help="Where the model between the two is, if FILE has one; as --cloud.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8101, show_default=True, help="gRPC port; 0 takes any.")
@click.option(
    "--rest-port", type=click.IntRange(0, 65535), default=8100, show_default=True, help="Port of the REST twin; 0 takes any."
)
@click.option(
    "--metrics-port", type=click.IntRange(0, 65535), default=8102, show_default=True, help="Port of /metrics, on loopback."
)
@click.option("--tls-certificate", type=_PATH, help="Certificate to show to clients; read anew when it changes.")
@click.option("--tls-key", type=_PATH, help="Its key.")
@click.option("--tls-client-authority", type=_PATH, help="Clients must show a certificate of this authority.")
@click.option("--tokens", type=_PATH, help="Folder with a file for each client that may ask: its name, in it its token.")
@click.option("--audit-key", type=_PATH, help="Key of the audit log's MACs.")
@click.option(
    "--files", type=_PATH, help="Folder with what steps read (tokenizer.json); left out, what was built, or FILE's own."
)
@click.option(
    "--allow-package", "allowed", multiple=True, metavar="NAME", help="Steps may call functions of this package, with our rights."
)
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Threads of the model.")
@click.option("--detach", is_flag=True, help="Leave the gateway running and return.")
def run(file: Path, detach: bool, cloud: str | None, cloud_authority: Path | None, threads: int, **given: Any) -> None:
    """Start the gateway of FILE, and stay until Ctrl-C.

    FILE is a DistilledModel with spec.edge that was built here (still build), or what still pack wrote where it was built. With
    spec.edge.preprocess only its steps run here: nothing need be built, and --cloud has the model.
    Clients speak the Open Inference Protocol to it, over gRPC and REST.

    \b
    Example:
      still edge run distilledmodel.yaml --cloud grpcs://cloud.example:443 --detach
    """
    from stillhouse.clients.store.local import LocalStore
    from stillhouse.entrypoints.edge import starting
    from stillhouse.entrypoints.edge.brokers import AtBroker
    from stillhouse.entrypoints.edge.packing import is_packed, unpack
    from stillhouse.entrypoints.edge.preparing import Given, prepare
    from stillhouse.entrypoints.edge.reporting import wait_for_larger
    from stillhouse.settings import load_settings

    starting.require_packages()
    store = LocalStore(load_settings().home)
    if is_packed(file):
        file = unpack(store, file)
    files = {name.removeprefix("tls_"): given[name] for name in ("tls_certificate", "tls_key", "tls_client_authority")}
    names = ("host", "port", "rest_port", "metrics_port", "tokens", "audit_key", "files", "allowed", "middle")
    doors = {name: given[name] for name in names}
    at_broker = AtBroker(
        given["cloud_username_file"],
        given["cloud_password_file"],
        given["cloud_certificate"],
        given["cloud_key"],
        given["cloud_device"],
    )
    clouds = Given(cloud, cloud_authority, at_broker, threads=threads, **doors, **files)
    prepared = prepare(store, file, clouds)
    _say(prepared)
    if not detach:
        starting.become(store, prepared)
    gateway = starting.detach(store, prepared)
    at = gateway.listen
    click.echo(f"{prepared.name}: gRPC at {at['grpc']}, REST at {at['rest']}, metrics at {at['metrics']}", err=True)
    click.echo(f"Stop it with: still edge stop {prepared.name}", err=True)
    if trouble := wait_for_larger(gateway, _LOOK_S):
        click.secho(f"{prepared.name}: {trouble}", fg="yellow", err=True)
    click.echo(f'Ask it: still ask {prepared.name} "…"', err=True)


def _where(larger: dict[str, Any]) -> str:
    if larger["kind"] == "mqtt":
        return f"{larger['model']} behind the broker {larger['broker']} (as device {larger['device']})"
    return f"{larger['model']} at {next(iter(larger['backends']))}"


def _say(prepared: Prepared) -> None:
    for each in prepared.remarks:
        click.secho(f"{prepared.name}: {each}", fg="yellow", err=True)
    edge = prepared.settings["edge"]
    if edge["kind"] == "steps":
        given = prepared.settings["preprocess"]
        larger, encoding = given["larger"], given["encoding"]
        where = _where(larger)
        how = "" if encoding == "none" else f", as {encoding}"
        click.echo(f"{prepared.name}: steps {edge['digest'][7:19]} run here; what they give goes to {where}{how}", err=True)
        return
    if edge["kind"] == "lower":
        where, what = _where(prepared.settings["cut"]["upper"]), f"{edge['digest'][7:19]} ({edge['variant']})"
        text = f"{prepared.name}: the lower half of {what} runs here; activations go to {where}"
        click.echo(text, err=True)
        return
    click.echo(f"{prepared.name}: {edge['digest'][7:19]} ({edge['variant']}) answers here", err=True)
    if prepared.cascade is None:
        return
    larger = prepared.settings["cascade"]["larger"]
    point, threshold = prepared.cascade["solved"]["point"], prepared.cascade["threshold"]
    where = _where(larger)
    if between := prepared.settings["cascade"].get("middle"):
        least = prepared.cascade["middle"]["threshold"]
        says = "never sure enough, so it is not asked" if least is None else f"its answer stands from a confidence of {least:.4f}"
        click.echo(f"  between: {_where(between)}, {says}", err=True)
    if threshold is None:
        click.secho(f"  no threshold meets the aim: everything goes to {where}", fg="yellow", err=True)
        return
    click.echo(
        f"  below a confidence of {threshold:.4f} {where} is asked: {point['escalation']['estimate']:.1%} of requests like the"
        f" threshold's; {point['agreement']['estimate']:.2%} of answers are as spec.source gives them [at"
        f" least {point['agreement']['low']:.2%}]",
        err=True,
    )


@command.command()
@click.argument("name", required=False)
@output_option
def status(name: str | None, output: str) -> None:
    """Show the gateways that run here: escalation, cloud calls avoided, breaker, queue, agreement, cost.

    \b
    Example:
      still edge status
      still edge status docstring-search -o json
    """
    from stillhouse.clients.store.local import LocalStore
    from stillhouse.entrypoints.edge import record
    from stillhouse.entrypoints.edge.reporting import fetch, lines
    from stillhouse.settings import load_settings

    store = LocalStore(load_settings().home)
    found = [record.require(store, name)] if name else record.running(store)
    reports = [fetch(each) for each in found]

    def text() -> None:
        for each in [] if name else record.killed(store):
            state = store.state(each.name)
            file = (state.get("revision") or {}).get("file") or state.get("file") or "FILE"
            click.echo(f"{each.name}: its gateway (process {each.pid}) was killed; start it again: still edge {file}")
        if not reports:
            click.echo("no gateway runs here; still edge FILE starts one")
        for report in reports:
            click.echo("\n".join(lines(report)))

    emit(reports, output, text)


@command.command()
@click.argument("name")
def stop(name: str) -> None:
    """Stop a gateway; what is under way ends first, what is queued stays on disk.

    \b
    Example:
      still edge stop docstring-search
    """
    from stillhouse.clients.store.local import LocalStore
    from stillhouse.entrypoints.edge import record
    from stillhouse.errors import ServerError
    from stillhouse.settings import load_settings

    gateway = record.require(LocalStore(load_settings().home), name)
    if not gateway.stop(_GRACE_S):
        raise ServerError(
            "the gateway did not end in time", field=name, found=f"process {gateway.pid}", fix=f"kill {gateway.pid}"
        )
    click.echo(f"{name}: stopped", err=True)
