"""`still push`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from stillhouse.entrypoints.options import cluster_options, emit, file_argument, output_option, parse_sources, source_option

__all__ = ["command"]


@click.command()
@file_argument
@click.option("--to", required=True, metavar="PLACE", help="pvc://CLAIM[/PREFIX], s3://BUCKET[/PREFIX] or oci://REGISTRY/REPO.")
@click.option("--image", default="", metavar="IMAGE", help="For pvc://: image of the pod that writes. Left out: the operator's.")
@source_option
@cluster_options
@output_option
def command(file: Path, to: str, image: str, sources: tuple[str, ...], context: str | None, namespace: str, output: str) -> None:
    """Upload what FILE names here, and bind it in a cluster.

    What is there already is not uploaded again, and an interrupted push goes on. The names are bound in ConfigMap
    stillhouse-sources of the namespace, so the file does not change.

    \b
    Example:
      still push examples/docstring-search/distilledmodel.yaml --to pvc://stillhouse-models
      still push distilledmodel.yaml --to s3://models/teachers --context prod -n search
    """
    from stillhouse.entrypoints.local.display import showing
    from stillhouse.entrypoints.local.text import size
    from stillhouse.entrypoints.remote.bindings import bind
    from stillhouse.entrypoints.remote.cluster import on_cluster
    from stillhouse.entrypoints.remote.place import Place
    from stillhouse.entrypoints.remote.pushing import check_place, find, target_of, upload
    from stillhouse.entrypoints.remote.there import check_there

    check_place(to)
    place = Place(namespace, context or "")
    on_cluster(place.context, lambda kube: check_there(kube, place, to))  # what is not there is told before the upload
    with showing() as listener:
        found = find(file, parse_sources(sources), listener)
        with target_of(to, context or "", namespace, image, listener.note) as target:
            placed = upload(found, target, listener)
    changed = on_cluster(context or "", lambda kube: bind(kube, namespace, {each.name: each.uri for each in placed}))
    following = place.kubectl(f"apply -f {shlex.quote(str(file))}")

    def text() -> None:
        for each in placed:
            how = f"{size(each.sent)} of {size(each.size)} uploaded" if each.sent else "already there"
            click.echo(f"{each.name}: {each.digest[:19]}, {how if each.uploaded else 'in the network, not uploaded'}")
            click.echo(f"  → {each.uri}")
        state = "bound" if changed else "already bound"
        click.echo(
            f"{len(placed)} {state} in ConfigMap stillhouse-sources of {namespace}" if placed else "the file names no source"
        )
        if to.startswith(("s3://", "oci://")):
            click.echo(f"note: unless it is open to all, builds need a Secret for {to}: spec.credentials, docs/sources.md")
        click.echo(f"next: {following}")

    emit(
        {
            "model": found.model,
            "namespace": namespace,
            "sources": [each.to_json() for each in placed],
            "changed": changed,
            "next": following,
        },
        output,
        text,
    )
