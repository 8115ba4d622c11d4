"""`still rollback`."""

from __future__ import annotations

import click

from stillhouse.entrypoints.options import cluster_options, emit, output_option

__all__ = ["command"]


@click.command()
@click.argument("name")
@click.option(
    "--to",
    "digest",
    default="",
    metavar="DIGEST",
    help="Revision to hold, or the beginning of its digest. Left out: the former one.",
)
@click.option("--undo", is_flag=True, help="Let go of the pin: the newest accepted revision serves again.")
@cluster_options
@output_option
def command(name: str, digest: str, undo: bool, context: str | None, namespace: str, output: str) -> None:
    """Put a former revision of a cluster's model back in place, and hold it.

    It sets `spec.serve.pin`; nothing is built. On one machine write the field into the file and run `still up` again.

    \b
    Example:
      still rollback docstring-search --context prod
      still rollback docstring-search --to 1a2b3c4d --context prod
      still rollback docstring-search --undo --context prod
    """
    from stillhouse.entrypoints.remote.cluster import on_cluster, pin
    from stillhouse.entrypoints.remote.place import Place
    from stillhouse.errors import UsageError

    if undo and digest:
        raise UsageError("--undo lets go of every pin", field="--to", found=digest, fix="leave one of the two out")
    place = Place(namespace, context or "")
    held = on_cluster(place.context, lambda kube: pin(kube, place, name, None if undo else digest))
    said = f"{name}: serve.pin holds {held}" if held else f"{name}: nothing is held; the newest accepted revision serves"
    emit({"name": name, "pin": held}, output, lambda: click.echo(said))
