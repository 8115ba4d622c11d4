"""`python -m tests.support.nodes up|down|exec|images`: a cluster to play with (`make cluster`, `make cluster-down`)."""

from __future__ import annotations

import shutil
import subprocess
import sys

import click
import yaml
from tests.support.kube.binaries import Unavailable, provide
from tests.support.kube.process import StartFailed
from tests.support.nodes import cluster as whole
from tests.support.nodes import images
from tests.support.nodes.commands import CommandFailed
from tests.support.nodes.needs import lacking
from tests.support.nodes.place import Place
from tests.support.nodes.running import Processes


@click.group()
def main() -> None:
    """A real Kubernetes on this machine, without a way out."""


@main.command()
@click.option("--nodes", default=2, show_default=True, help="How many.")
def up(nodes: int) -> None:
    """Start it, with our images on every node."""
    if reason := lacking():
        raise click.ClickException(reason)
    if whole.PLAY.exists() and not Processes(whole.PLAY, bound=False).lives():
        click.echo("removing what is left of one whose processes were killed")
        _remove()
    if whole.PLAY.exists():
        raise click.ClickException(f"it runs already: export KUBECONFIG={whole.PLAY}/kubeconfig (make cluster-down removes it)")
    try:
        programs, archive = provide([*whole.PROGRAMS, "kubectl", "helm"]), images.ours()
        whole.PLAY.mkdir(parents=True)
        try:
            mounts = {images.TRAINING: images.training()}
            cluster = whole.up(Place(whole.PLAY, nodes), programs, mounts=mounts, archives=[archive], bound=False)
        except BaseException:
            _remove()
            raise
    except (Unavailable, StartFailed, CommandFailed) as error:
        raise click.ClickException(str(error)) from error
    tools, values = whole.PLAY / "bin", whole.PLAY / "values.yaml"
    tools.mkdir()
    for name in ("kubectl", "helm"):
        (tools / name).symlink_to(programs[name])
    values.write_text(yaml.safe_dump(images.values()))
    click.echo(f"{nodes} nodes are ready, with our images on them; training's packages are mounted from .venv.\n")
    click.echo(f"  export KUBECONFIG={cluster.kubeconfig} PATH={tools}:$PWD/.venv/bin:$PATH")
    click.echo("  kubectl get nodes")
    click.echo("  helm install stillhouse charts/stillhouse -n stillhouse --create-namespace --wait \\")
    click.echo(f"    --values {values} --set 'store.namespaces={{default}}'\n")
    click.echo(
        "Services (NAME.NAMESPACE.svc.cluster.local) and pods are reached from inside its network: make cluster-exec CMD='…'."
    )
    click.echo("make cluster-down removes all.")


@main.command()
def down() -> None:
    """Remove it, with all that it made."""
    if not whole.PLAY.exists():
        click.echo("no cluster is here")
        return
    _remove()
    click.echo("it is gone")


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
def exec(words: tuple[str, ...]) -> None:
    """Run a command where Services and pods are reached by their names."""
    try:
        cluster = whole.play()
    except StartFailed as error:
        raise click.ClickException(str(error)) from error
    sys.exit(subprocess.run(cluster.within(*words), env=cluster.environment(), check=False).returncode)


@main.command("images")
def build() -> None:
    """Build the images ahead of time."""
    if reason := lacking():
        raise click.ClickException(reason)
    try:
        click.echo(images.ours())
    except CommandFailed as error:
        raise click.ClickException(str(error)) from error


def _remove() -> None:
    whole.down(whole.PLAY)
    shutil.rmtree(whole.PLAY, ignore_errors=True)


if __name__ == "__main__":
    main()
