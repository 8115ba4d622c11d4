"""A shell beside a claim: the pod of a push is made, waited for, used, and removed however that ends."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from stillhouse.clients.sources.push.pvc import ROOT
from stillhouse.clients.sources.push.shell import Ended, Shell
from stillhouse.entrypoints.remote.cluster import on_cluster
from stillhouse.errors import EnvironmentProblem, StillhouseError, UsageError
from stillhouse.resources.pushing import CONTAINER, push_pod

__all__ = ["beside", "image_of_operator", "trouble"]

_OPERATOR = "app.kubernetes.io/component=operator"
_PATIENCE_S = 180.0
_LOOK_S = 0.5
_NEVER = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
Body = dict[str, Any]


@contextlib.contextmanager
def beside(claim: str, context: str, namespace: str, image: str, told: Callable[[str], None]) -> Iterator[Shell]:
    """Yield a shell in a pod that mounts a claim. `image` empty: the operator's; `told` hears what is waited for.

    Raises:
        UsageError: no image is named and no operator is seen.
        EnvironmentProblem: the pod does not come up.
        KubeError: the server refuses.
    """
    pull: list[str] = []
    if not image:
        image, pull = on_cluster(context, image_of_operator)
    name = f"still-push-{secrets.token_hex(4)}"
    made = on_cluster(context, lambda kube: _make(kube, push_pod(name, namespace, claim, ROOT, image, pull)))
    try:
        told(f"waiting for pod {namespace}/{name}")
        on_cluster(context, lambda kube: _up(kube, namespace, name, told))
        yield _PodShell(context, namespace, name)
    finally:
        on_cluster(context, lambda kube: _remove(kube, made))


class _PodShell:
    def __init__(self, context: str, namespace: str, pod: str) -> None:
        self._context, self._namespace, self._pod = context, namespace, pod

    def run(self, words: Sequence[str], stdin: Iterable[bytes] = ()) -> Ended:
        """Run a program in the pod."""
        from stillhouse.clients.kube.shell import run_in

        return on_cluster(self._context, lambda kube: run_in(kube, self._namespace, self._pod, CONTAINER, words, stdin))


async def image_of_operator(kube: Any) -> tuple[str, list[str]]:
    """Return the image of the operator that is installed, which this cluster can pull, and its pull Secrets.

    Raises:
        UsageError: none is seen.
    """
    from stillhouse.clients.kube.interface import Forbidden
    from stillhouse.clients.kube.kinds import DEPLOYMENT

    found: list[Body] = []
    why = "no Deployment has label " + _OPERATOR
    try:
        found = await kube.find(DEPLOYMENT, "", _OPERATOR)
    except Forbidden as error:
        why = error.problem.found
    for each in found:
        pod = each["spec"]["template"]["spec"]
        images = [container["image"] for container in pod["containers"] if container["name"] == "operator"]
        if images and "stillhouse" in str(each["metadata"]["labels"].get("app.kubernetes.io/name", "")) + images[0]:
            return images[0], [secret["name"] for secret in pod.get("imagePullSecrets") or []]
    raise UsageError(
        "the operator's image is not known, and the pod that writes into the claim needs one",
        field="--image",
        found=why[:300],
        allowed="an image with sh, head, find and sha256sum",
        fix="name one: --image IMAGE",
    )


async def _make(kube: Any, body: Body) -> Body:
    from stillhouse.clients.kube.kinds import POD
    from stillhouse.entrypoints.remote.bindings import MANAGER

    made: Body = await kube.create(POD, body["metadata"]["namespace"], body, manager=MANAGER)
    return made


async def _remove(kube: Any, body: Body) -> None:
    from stillhouse.clients.kube.kinds import POD

    await kube.delete(POD, body["metadata"]["namespace"], body["metadata"]["name"], body["metadata"]["uid"])


async def _up(kube: Any, namespace: str, name: str, told: Callable[[str], None]) -> None:
    import asyncio

    from stillhouse.clients.kube.kinds import POD

    deadline, last = time.monotonic() + _PATIENCE_S, ""
    while True:
        pod = await kube.get(POD, namespace, name)
        phase = (pod or {}).get("status", {}).get("phase", "")
        if phase == "Running":
            return
        why, never = trouble(pod or {})
        if why and why != last:
            told(why)
            last = why
        if pod is None or never or phase in ("Failed", "Succeeded") or time.monotonic() > deadline:
            raise _not_up(f"{namespace}/{name}", why or phase or "it is gone")
        await asyncio.sleep(_LOOK_S)


def trouble(pod: Body) -> tuple[str, bool]:
    """Return why a pod does not run yet, and whether it never will."""
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            return f"{waiting['reason']}: {waiting.get('message', '')}"[:300], waiting["reason"] in _NEVER
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            message = str(condition.get("message", ""))
            return f"{condition.get('reason', '')}: {message}"[:300], "not found" in message
    return str(status.get("message", ""))[:300], False


def _not_up(name: str, why: str) -> StillhouseError:
    return EnvironmentProblem(
        "the pod that writes into the claim does not run",
        field=f"pod {name}",
        found=why,
        fix="is there a claim of that name in the namespace, and can the image be pulled? --image names another",
    )
