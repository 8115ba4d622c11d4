"""A cluster as `still` sees it: models with everything that belongs to them, as plain data."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from stillhouse.clients.kube.interface import Unavailable
from stillhouse.entrypoints.remote.place import Place
from stillhouse.errors import (
    EnvironmentProblem,
    GateFailed,
    GateInconclusive,
    MissingPackages,
    SpecError,
    StillhouseError,
    UsageError,
)
from stillhouse.extras import install
from stillhouse.reconcile.observed import ended
from stillhouse.resources import labels

__all__ = ["inspect", "on_cluster", "pin", "wait"]

T = TypeVar("T")
_LOOK_S = 1.0
_SHOWN = ("Deployment", "Job", "ModelRevision")


def on_cluster(context: str, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """Connect to the cluster of a kubeconfig's context (empty: the current one) and do something there.

    Raises:
        MissingPackages: `stillhouse[operator]` is not installed.
        UsageError, KubeError: there is no such context; the API server refuses or does not answer.
    """
    try:
        from stillhouse.clients.kube.api import connect
    except ImportError as error:
        raise MissingPackages("a cluster needs the kubernetes package", found=str(error), fix=install("operator")) from error

    async def run() -> T:
        async with await connect(context) as kube:
            return await work(kube)

    return asyncio.run(run())


async def inspect(kube: Any, place: Place, name: str | None) -> list[dict[str, Any]]:
    """Return every model of a namespace, or one, with its revisions, its Jobs and its Deployment.

    Raises:
        UsageError: there is no model of that name.
    """
    from stillhouse.clients.kube.kinds import DEPLOYMENT, JOB, MODEL, REVISION

    namespace = place.namespace
    models = await kube.find(MODEL, namespace)
    if name is not None:
        models = [each for each in models if each["metadata"]["name"] == name]
        if not models:
            raise UsageError(
                "there is no such model in the cluster",
                field="NAME",
                found=f"{namespace}/{name}",
                fix=place.kubectl("get dm"),
            )
    chosen = f"{labels.MODEL}={name}" if name else labels.MODEL
    others = [body for kind in (REVISION, JOB, DEPLOYMENT) for body in await kube.find(kind, namespace, chosen)]
    return [
        _model(each, [other for other in others if other["metadata"]["labels"].get(labels.MODEL) == each["metadata"]["name"]])
        for each in models
    ]


def _model(body: dict[str, Any], others: list[dict[str, Any]]) -> dict[str, Any]:
    status = body.get("status") or {}
    return {
        "name": body["metadata"]["name"],
        "namespace": body["metadata"]["namespace"],
        "generation": body["metadata"].get("generation", 0),
        "observedGeneration": status.get("observedGeneration", 0),
        "pin": body["spec"].get("serve", {}).get("pin", ""),
        "endpoint": status.get("endpoint", ""),
        "replicas": {"exist": status.get("replicas", 0), "answer": status.get("readyReplicas", 0)},
        "progress": status.get("progress", ""),
        "revision": status.get("revision"),
        "variants": status.get("variants", []),
        "conditions": status.get("conditions", []),
        "revisions": sorted(
            (_revision(each) for each in others if each["kind"] == "ModelRevision"), key=lambda each: each["time"], reverse=True
        ),
        "jobs": [_job(each) for each in others if each["kind"] == "Job"],
        "deployments": [each["metadata"]["name"] for each in others if each["kind"] == "Deployment"],
    }


def _revision(body: dict[str, Any]) -> dict[str, Any]:
    spec = body["spec"]
    return {
        "name": body["metadata"]["name"],
        "time": body["metadata"].get("creationTimestamp", ""),
        **{part: spec.get(part, "") for part in ("outcome", "reason", "message", "precision", "digest")},
    }


def _job(body: dict[str, Any]) -> dict[str, Any]:
    status = body.get("status") or {}
    return {
        "name": body["metadata"]["name"],
        "stage": body["metadata"]["labels"].get(labels.STAGE, ""),
        "state": ended(body) or ("running" if status.get("active") else "waiting"),
        "failed": int(status.get("failed") or 0),
    }


async def wait(kube: Any, place: Place, name: str, seconds: float, told: Callable[[str], None]) -> dict[str, Any]:
    """Wait until a model is ready; `told` hears each new reason. Return the model.

    Raises:
        GateFailed, GateInconclusive, SpecError: it will not become ready until somebody acts.
        EnvironmentProblem: the time ran out, or the cluster is in the way.
        UsageError: there is no such model.
    """
    deadline, last = time.monotonic() + seconds, ""
    while True:
        (model,) = await inspect(kube, place, name)
        current = {each["type"]: each for each in model["conditions"] if each.get("observedGeneration") == model["generation"]}
        ready, stalled = current.get("Ready"), current.get("Stalled")
        if ready and ready["status"] == "True":
            return model
        if stalled:
            raise _stalled(name, stalled)
        why = f"{ready['reason']}: {model['progress'] or ready['message']}" if ready else "the operator has not looked at it yet"
        if why != last:
            told(why)
            last = why
        if time.monotonic() >= deadline:
            raise EnvironmentProblem(
                f"{name} is not ready after {seconds:g} s",
                field=f"{place.namespace}/{name}",
                found=why,
                fix=place.kubectl(f"describe dm {name}"),
            )
        await asyncio.sleep(_LOOK_S)


async def follow(kube: Any, place: Place, name: str | None, seen: Callable[[list[dict[str, Any]]], None]) -> None:
    """Tell `seen` of the models (of one, where `name` is given) now and whenever something of them is different, for ever.

    Raises:
        UsageError, KubeError: there is no such model any more; the API server refuses. One that does not answer is asked again.
    """
    last: list[dict[str, Any]] | None = None
    while True:
        try:
            models = await inspect(kube, place, name)
        except Unavailable:
            if last is None:
                raise
        else:
            if models != last:
                seen(models)
                last = models
        await asyncio.sleep(_LOOK_S)


def _stalled(name: str, condition: dict[str, Any]) -> StillhouseError:
    reason, message = condition["reason"], condition["message"]
    if reason == "GateFailed":
        return GateFailed(f"{name}: {message}")
    if reason == "GateInconclusive":
        return GateInconclusive(f"{name}: {message}")
    kind: type[StillhouseError] = EnvironmentProblem if reason in ("NotOwned", "ApplyFailed") else SpecError
    return kind(f"{name} waits for a change: {reason}", field=name, found=message)


async def pin(kube: Any, place: Place, name: str, digest: str | None) -> str:
    """Hold a revision, or with None let go; return the digest that is held from now on ("": none).

    `digest` is whole or its beginning, with or without `sha256:`; "" takes the one that was accepted before the one that serves.

    Raises:
        UsageError: no accepted revision has that digest, or there is none before.
    """
    from stillhouse.clients.kube.kinds import MODEL

    (model,) = await inspect(kube, place, name)
    held = "" if digest is None else _chosen(place, model, digest.removeprefix("sha256:"))
    await kube.patch(MODEL, place.namespace, name, {"spec": {"serve": {"pin": held or None}}}, manager="still")
    return held


def _chosen(place: Place, model: dict[str, Any], start: str) -> str:
    accepted = [each["digest"] for each in model["revisions"] if each["outcome"] == "Accepted"]
    allowed = ", ".join(each[7:19] for each in accepted) or "none"
    look = place.still(f"status {model['name']}")
    if start:
        found = sorted({each for each in accepted if each.removeprefix("sha256:").startswith(start)})
        if len(found) != 1:
            problem = "several revisions begin so" if found else "no accepted revision has this digest"
            raise UsageError(problem, field="--to", found=start, allowed=allowed, fix=f"{look} lists them")
        return str(found[0])
    serves = (model["revision"] or {}).get("digest", "")
    former = next((each for each in accepted if each != serves), "")
    if not former:
        failed = sum(each["outcome"] == "Failed" for each in model["revisions"])
        raise UsageError(
            "there is no revision to go back to",
            field="NAME",
            found=f"{model['name']}: {len(accepted)} accepted, {failed} failed",
            allowed="an accepted revision beside the one that serves",
            fix=f"change spec and apply the file: what its gate accepts is a revision, and this one is then the former ({look})",
        )
    return str(former)
