"""Whether the store's claim can be where the pods are.

One that a single node may mount keeps the pods of another waiting, and nobody says so but an event.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from stillhouse.clients.kube.interface import Kube
from stillhouse.clients.kube.kinds import CLAIM
from stillhouse.reconcile.decide import Verdict
from stillhouse.reconcile.observed import Body

__all__ = ["Storage", "kept_apart"]

_SHARED = ("ReadWriteMany", "ReadOnlyMany")
_KNOWN_S = 600.0
"""A claim's modes never change; another claim of its name is seen after this long."""


def kept_apart(pods: Iterable[Body]) -> bool:
    """Return whether a pod waits for its volumes while another of the model's runs on another node."""
    waiting, running = set(), set()
    for pod in pods:
        status = pod.get("status") or {}
        host = status.get("hostIP")
        if not host or pod["metadata"].get("deletionTimestamp"):
            continue
        if status.get("phase") == "Running":
            running.add(host)
        elif status.get("phase") == "Pending":
            waiting.add(host)
    return any(host != other for host in waiting for other in running)


class Storage:
    """Looks at the claim where pods wait, and only there."""

    def __init__(self, kube: Kube, claim: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube, self._claim, self._clock = kube, claim, clock
        self._known: dict[str, tuple[float, tuple[str, ...]]] = {}

    async def unshared(self, namespace: str, pods: Iterable[Body]) -> Verdict | None:
        """Return what keeps pods of a model waiting, None where that is not the claim.

        Raises:
            KubeError: the server does not say.
        """
        if not kept_apart(pods):
            return None
        modes = await self._modes(namespace)
        if not modes or any(each in _SHARED for each in modes):
            return None
        return Verdict(
            "VolumeNotShared",
            f"claim {self._claim} is {', '.join(modes)}: one node alone can mount it, and this model's pods are on several;"
            " take a claim that is ReadWriteMany, or keep them on one node: spec.serve.podTemplate.spec.nodeSelector and"
            " spec.build.placement.nodeSelector",
        )

    async def _modes(self, namespace: str) -> tuple[str, ...]:
        at, modes = self._known.get(namespace, (0.0, ()))
        if not modes or self._clock() - at > _KNOWN_S:
            found = await self._kube.get(CLAIM, namespace, self._claim)
            modes = tuple(map(str, ((found or {}).get("spec") or {}).get("accessModes") or []))
            self._known[namespace] = (self._clock(), modes)
        return modes
