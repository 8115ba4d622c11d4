"""A cluster's model as a tree, as `still status` shows the laptop's."""

from __future__ import annotations

from typing import Any

from stillhouse.entrypoints.local.text import condition

__all__ = ["tree"]

_HASHES = (("request", "requestHash"), ("plan", "planHash"))


def tree(model: dict[str, Any]) -> Any:
    """Return a rich tree."""
    from rich.markup import escape
    from rich.tree import Tree

    ready = next((each for each in model["conditions"] if each["type"] == "Ready"), None)
    summary = f"{ready['reason']}" if ready else "the operator has not looked at it yet"
    top = Tree(f"[bold]{model['name']}[/]  {escape(summary)}")
    if model["progress"]:
        top.add(escape(f"progress  {model['progress']}"))
    if model["endpoint"]:
        replicas = model["replicas"]
        top.add(escape(f"server  {model['endpoint']}, {replicas['answer']} of {replicas['exist']} replicas answer"))
    if model["revision"]:
        revision = model["revision"]
        branch = top.add(escape(f"revision  {revision['digest'][7:19]}  {revision['precision']}  {revision['size']}"))
        for figure in revision.get("metrics", []):
            branch.add(escape(f"{figure['name']}  {figure['value']}"))
        _lineage(branch, revision)
    if model["variants"]:
        branch = top.add("gate")
        for candidate in model["variants"]:
            why = "  ".join(each["value"] for each in candidate.get("metrics", []))
            branch.add(escape(f"{candidate['precision']}  {candidate['size']}  {why}"))
    if model["revisions"]:
        branch = top.add("revisions")
        for each in model["revisions"]:
            held = "  pinned" if each["digest"] and each["digest"] == model["pin"] else ""
            told = (
                f"{each['precision']}  {each['digest'][7:19]}"
                if each["outcome"] == "Accepted"
                else f"{each['reason']}: {each['message']}"
            )
            branch.add(escape(f"{each['name']}  {each['time']}  {told}{held}"))
    for job in model["jobs"]:
        top.add(escape(f"job  {job['stage']}  {job['state']}" + (f", {job['failed']} attempts failed" if job["failed"] else "")))
    for each in model["conditions"]:
        top.add(escape(condition(each)))
    return top


def _lineage(branch: Any, revision: dict[str, Any]) -> None:
    """Say what the revision that serves was made of: where the laptop's tree has its steps."""
    from rich.markup import escape

    made_of = revision.get("lineage") or {}
    if not made_of:
        return
    hashes = "  ".join(f"{name} {revision[part][:12]}" for name, part in _HASHES if revision.get(part))
    inner = branch.add(escape(f"made of  {hashes}".rstrip()))
    for each in made_of.get("sources", []):
        inner.add(escape(f"{each['name']:<12} {each['digest'].removeprefix('sha256:')[:12]}  {each['uri']}".rstrip()))
    versions = ", ".join(f"{each['name']} {each['value']}" for each in made_of.get("toolchain", []))
    if versions:
        inner.add(escape(f"{'toolchain':<12} {versions}"))
