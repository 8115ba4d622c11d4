"""Whether what the store promises is there: every object that a receipt or a model refers to. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.receipts import Receipt
from stillhouse.entrypoints.findings import finding
from stillhouse.entrypoints.local.state import objects_of
from stillhouse.entrypoints.local.text import size
from stillhouse.passes.base import Progress
from stillhouse.planning.edge import CASCADE, CUT
from stillhouse.planning.gating import GATE, INDEX
from stillhouse.planning.steps import STEPS

__all__ = ["verify"]


@dataclass(frozen=True, slots=True)
class _Use:
    """Who refers to an object: `what` as a person calls it, how bad it is that it is damaged, and the way out."""

    what: str
    state: str
    fix: str


def verify(store: LocalStore, *, contents: bool, progress: Progress) -> list[dict[str, Any]]:
    """Return findings as plain data: one for each damaged object or record, or a single one that all is well.

    Names and sizes are compared always; with `contents` every byte is read. The caller holds the store (`using`): a
    garbage collection in between would look like damage.
    """
    receipts = {key: store.receipt(key) for key in store.receipt_keys()}
    states = {name: store.state(name) for name in store.model_names()}
    digests = sorted({receipt.artifact for receipt in receipts.values() if receipt} | set(_named(states)))
    bytes_in_all = sum(store.objects.size(digest) for digest in digests)
    damaged = _damaged(store, digests, bytes_in_all if contents else None, progress)
    findings = []
    for digest, problem in damaged.items():
        use = _use(store, digest, damaged, receipts, states)
        findings.append(finding(use.state, f"stored object of {use.what}", f"{digest}: {problem}", use.fix))
    for key, receipt in receipts.items():
        if receipt is None:
            findings.append(
                finding(
                    "warning",
                    f"receipt {key[:12]}",
                    "cannot be read, so its step counts as not run",
                    "nothing to do: the next build that needs the step runs it; still gc removes the receipt",
                )
            )
    for name in states:
        if store.state_damaged(name):
            fix = f"run `still build FILE` for it again (finished steps are found again), or `still gc --forget {name}`"
            findings.append(finding("failed", f"what is known of {name}", "cannot be read", fix))
    if findings:
        return findings
    detail = f"{len(digests)} objects, {size(bytes_in_all)}: " if digests else "none yet"
    how = "every content matches its digest" if contents else "all there by name and size; still doctor --store reads them"
    return [finding("ok", "stored objects", detail + (how if digests else ""))]


def _damaged(store: LocalStore, digests: list[str], total: int | None, progress: Progress) -> dict[str, str]:
    """Return digest → what is wrong, of the damaged ones. `total` are the bytes to read, None to read none."""
    found: dict[str, str] = {}
    before = 0

    def reading(done: int, _: int) -> None:
        progress.update(before + done, total, "bytes", "reading what is stored")

    for position, digest in enumerate(digests):
        if total is None:
            progress.update(position, len(digests), "objects", "looking at what is stored")
            problem = store.objects.look(digest)
        else:
            problem = store.objects.check(digest, full=True, report=reading)
            before += store.objects.size(digest)
        if problem:
            found[digest] = problem if store.objects.size(digest) or store.objects.path(digest).exists() else "it is gone"
    return found


def _revisions(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the model's revision and its former ones."""
    for revision in (state.get("revision"), *state.get("history", [])):
        if revision:
            yield revision


def _named(states: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the digests that models name themselves."""
    for state in states.values():
        for revision in _revisions(state):
            yield from objects_of(revision)


def _wanted(state: dict[str, Any], damaged: dict[str, str], receipts: dict[str, Receipt | None]) -> dict[str, str]:
    """Return key → id of the steps of a model's last plan that its next build runs: as `Plan.missing`, from the record."""
    steps = {step["id"]: step for step in state.get("steps", [])}
    found: dict[str, str] = {}
    stack = [step_id for step_id in (GATE, INDEX, CASCADE, CUT, STEPS) if step_id in steps]
    while stack:
        step = steps[stack.pop()]
        receipt = receipts.get(step["key"])
        if step["key"] not in found and (receipt is None or receipt.artifact in damaged):
            found[step["key"]] = step["id"]
            stack.extend(parent for parent in step.get("parents", {}).values() if parent in steps)
    return found


def _use(
    store: LocalStore,
    digest: str,
    damaged: dict[str, str],
    receipts: dict[str, Receipt | None],
    states: dict[str, dict[str, Any]],
) -> _Use:
    """Return the most important use of a damaged object."""
    keys = {key: receipt.step for key, receipt in receipts.items() if receipt and receipt.artifact == digest}
    former: list[_Use] = []
    idle: list[_Use] = []
    for name, state in states.items():
        build = f"still build {state.get('file', 'FILE')}"
        for key, step_id in _wanted(state, damaged, receipts).items():
            if key in keys:
                return _Use(f"{name}, {step_id}", "failed", build)
        for revision in _revisions(state):
            what = f"{name}, revision {revision['digest'][7:19]}"
            serves = revision is state.get("revision")
            if digest in objects_of(revision):
                if serves and revision.get("planHash") == state.get("planHash"):
                    return _Use(what, "failed", build)
                if serves:
                    fix = f"{build}, with the file and its sources as they were on {revision.get('time', 'that day')}"
                else:  # what it measured cannot be measured again; `state.accepted` keeps no revision that is not there
                    fix = f"it cannot be made again; to forget it: rm -rf {store.objects.path(digest)} && {build}"
                former.append(_Use(what, "failed" if serves else "warning", fix))
        of_model = [step for part in (state, *_revisions(state)) for step in part.get("steps", [])]
        for key in sorted(keys.keys() & {step["key"] for step in of_model}):
            fix = f"nothing to do: what was made from it is whole; `{build}` builds it again once a step needs it"
            idle.append(_Use(f"{name}, {keys[key]}", "warning", fix))
    former.sort(key=lambda use: use.state)  # "failed" before "warning"
    nobody = _Use(f"{next(iter(keys.values()), 'no step')}, of no model", "warning", "still gc")
    return next(iter([*former, *idle]), nobody)
