"""`still doctor`."""

from __future__ import annotations

import sys

import click

from stillhouse.entrypoints.options import cluster_options, emit, output_option

__all__ = ["command"]


@click.command()
@click.option("--store", "contents", is_flag=True, help="Read every stored object, too, and compare it with its digest.")
@click.option("--cluster", is_flag=True, help="Check a cluster instead (of --context, else of the current one).")
@click.option("--operator-namespace", default="stillhouse", show_default=True, help="Where the operator is installed.")
@cluster_options
@output_option
def command(contents: bool, cluster: bool, operator_namespace: str, context: str | None, namespace: str, output: str) -> None:
    """Check this machine and the store; every failure comes with its fix. Exit code 5 when something is missing or damaged.

    Of what is stored, names and sizes are compared. A flipped bit shows only with --store, which reads all of it.

    \b
    Example:
      still doctor
      still doctor --store
      still doctor --cluster --context prod -n models
    """
    from stillhouse.entrypoints.local.display import showing

    if cluster or context is not None:
        from stillhouse.entrypoints.remote.cluster import on_cluster
        from stillhouse.entrypoints.remote.doctoring import examine_cluster
        from stillhouse.entrypoints.remote.place import Place

        place = Place(namespace, context or "")
        findings = on_cluster(place.context, lambda kube: examine_cluster(kube, place, operator_namespace))
    else:
        from stillhouse.entrypoints.local.examining import examine

        with showing() as listener, listener.busy("store") as progress:
            findings = examine(contents=contents, progress=progress)

    def text() -> None:
        marks = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red")}
        for finding in findings:
            mark, colour = marks[finding["state"]]
            click.secho(f"{mark} ", fg=colour, nl=False)
            click.echo(f"{finding['title']}: {finding['detail']}")
            if finding["state"] != "ok" and finding["fix"]:
                click.echo(f"    fix: {finding['fix']}")

    emit(findings, output, text)
    if any(finding["state"] == "failed" for finding in findings):
        sys.exit(5)
