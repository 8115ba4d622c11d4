"""`still status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from stillhouse.entrypoints import interrupts
from stillhouse.entrypoints.options import cluster_options, console, emit, output_option

__all__ = ["command"]

if TYPE_CHECKING:
    from stillhouse.entrypoints.remote.place import Place


@click.command()
@click.argument("name", required=False)
@click.option("--steps/--no-steps", default=True, show_default=True, help="Show the steps.")
@cluster_options
@click.option("--timeout", default="", metavar="DURATION", help="With --context: wait until the model is ready, for example 10m.")
@click.option("-w", "--watch", is_flag=True, help="With --context: show it again whenever it changes, until Ctrl-C.")
@output_option
def command(name: str | None, steps: bool, context: str | None, namespace: str, timeout: str, watch: bool, output: str) -> None:
    """Show models, steps, figures and servers as a tree; with --context those of a cluster.

    Waiting with --timeout ends with 0 when the model is ready, 3 or 4 when its gate refused, 2 when it waits for a change of its
    spec, 5 when the time ran out.

    \b
    Example:
      still status
      still status docstring-search -o yaml
      still status docstring-search --context prod --watch
      still status docstring-search --context prod --timeout 10m
    """
    if context is not None or timeout or watch:
        from stillhouse.entrypoints.remote.place import Place

        _of_cluster(name, Place(namespace, context or ""), timeout, watch, output)
        return
    from stillhouse.entrypoints.local.inspecting import inspect

    models = inspect(name)

    def text() -> None:
        if not models:
            click.echo("No models yet. Start with: still up FILE (those of a cluster: still status --context CONTEXT)")
            return
        screen = console()
        for model in models:
            screen.print(_tree(model, steps=steps))

    emit(models, output, text)


def _of_cluster(name: str | None, place: Place, timeout: str, watch: bool, output: str) -> None:
    from stillhouse.api.scalars import parse_duration
    from stillhouse.entrypoints.remote.cluster import follow, inspect, on_cluster, wait
    from stillhouse.entrypoints.remote.tree import tree
    from stillhouse.errors import StillhouseError, UsageError

    def show(models: list[dict[str, Any]]) -> None:
        def text() -> None:
            if not models:
                apply = place.kubectl("apply -f distilledmodel.yaml")
                click.echo(f"No models in namespace {place.namespace}. Start with: {apply}")
            for model in models:
                console().print(tree(model))

        emit(models, output, text)

    if timeout:
        if name is None:
            raise UsageError("waiting needs a model", field="NAME", fix="still status NAME --timeout 10m")
        try:
            seconds = parse_duration(timeout)
        except ValueError as error:
            raise UsageError("that is no duration", field="--timeout", found=timeout, allowed="for example 90s or 10m") from error
        told = lambda why: click.echo(why, err=True)  # noqa: E731
        models = [on_cluster(place.context, lambda kube: wait(kube, place, name, seconds, told))]
    elif watch:
        try:
            on_cluster(place.context, lambda kube: follow(kube, place, name, show))
        except (KeyboardInterrupt, StillhouseError):
            if not interrupts.requested():
                raise
        click.get_current_context().exit(130)  # quietly: nothing was begun that could be gone on with
    else:
        models = on_cluster(place.context, lambda kube: inspect(kube, place, name))

    show(models)


def _tree(model: dict[str, Any], *, steps: bool) -> Any:
    from rich.markup import escape
    from rich.tree import Tree

    from stillhouse.entrypoints.local.text import condition, cut, duration, interval, size
    from stillhouse.planning.steps import PRECISION

    tree = Tree(f"[bold]{model['name']}[/]  {escape(model['summary'])}")
    server = model["server"]
    if server:
        branch = tree.add(f"server  {server['health']} at {server['address']}, pid {server['pid']}, since {server['started']}")
        for line in server["details"]:
            branch.add(escape(line))
    elif model["revision"] and model["revision"]["precision"] == PRECISION:
        gateway = model["gateway"]
        tree.add(f"gateway  at {gateway['address']}, pid {gateway['pid']}" if gateway else "gateway  [dim]none[/]")
    else:
        tree.add("server  [dim]none[/]")
    revision = model["revision"]
    if revision:
        branch = tree.add(
            f"revision  {revision['digest'][7:19]}  {revision['precision']}  {size(revision['size'])}  {revision['time']}"
        )
        for figure, value in revision["figures"].items():
            branch.add(f"{escape(figure)}  {interval(figure, value)}")
        if revision["truncated"]:
            branch.add(f"text  {cut(revision['truncated'])}")
    verdict = model["verdict"]
    if verdict:
        colour = {"passed": "green", "failed": "red"}.get(verdict["outcome"], "yellow")
        asked = not any(entry["reason"] == "NoGate" for entry in model["conditions"]) or verdict["outcome"] != "passed"
        outcome = f"[{colour}]{verdict['outcome']}[/]" if asked else "[dim]no gate was asked for[/]"
        what = "last build" if verdict["outcome"] == "error" else "gate"  # which it did not reach, or could not begin
        branch = tree.add(f"{what}  {outcome}  {verdict['time']}")
        for candidate in verdict["candidates"]:
            rung = branch.add(f"{candidate['precision']}  {candidate['outcome']}  {size(candidate['size'])}")
            if candidate.get("lost") and candidate["outcome"] == "passed":
                rung.add(escape(f"not taken: {candidate['lost']}"))
            for check in candidate["checks"]:
                rung.add(escape(f"{'✓' if check['outcome'] == 'passed' else '✗'} {check['text']}"))
            for figure, value in _unlimited(candidate).items():
                rung.add(escape(f"{figure}  {interval(figure, value)}"))
            if candidate.get("truncated"):
                rung.add(f"text: {cut(candidate['truncated'])}")
        if verdict["message"] and not verdict["candidates"]:
            branch.add(escape(verdict["message"]))
    if steps:
        branch = tree.add("steps")
        for step in model["steps"]:
            made = (
                f"{step['artifact'][7:19]}  {size(step['size']):>9}  {duration(step['seconds'])}"
                if step["artifact"]
                else "[dim]not there[/]"
            )
            facts = step["facts"]  # of the gate's choice; of the teacher while it was read; of a training
            arithmetic = facts.get("precision", "") or facts.get("arithmetic", "").replace("float32", "")
            told = branch.add(f"{step['id']:<26} {made}  {arithmetic}".rstrip())
            for picture in step["pictures"]:
                told.add(f"picture  {escape(picture)}")
    for entry in model["conditions"]:
        tree.add(escape(condition(entry)))
    return tree


def _unlimited(candidate: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a candidate that no limit tells of already. Of the one that was taken the revision has them."""
    if candidate["outcome"] == "passed" and not candidate.get("lost"):
        return {}
    checked = {check.get("name") for check in candidate["checks"]}
    return {name: value for name, value in (candidate.get("figures") or {}).items() if name not in checked}
