"""Whether somebody may read a metric: the API server is asked (SubjectAccessReview), and its answer kept for seconds."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from stillhouse.clients.kube.interface import Kube
from stillhouse.clients.kube.kinds import ACCESS_REVIEW
from stillhouse.resources.metrics_api import GROUP, VERSION
from stillhouse.scaling.frontproxy import User

__all__ = ["Access"]

_YES_S, _NO_S = 10.0, 5.0
_MOST = 4096


class Access:
    """Answers of the API server, each kept for some seconds."""

    def __init__(self, kube: Kube, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube, self._clock = kube, clock
        self._known: OrderedDict[Any, tuple[float, bool]] = OrderedDict()

    async def allowed(self, user: User, namespace: str, metric: str) -> bool:
        """Return whether a user may list a metric in a namespace.

        Raises:
            KubeError: the API server does not say.
        """
        extra = tuple(sorted((name, tuple(values)) for name, values in user.extra.items()))
        question = (user.name, user.uid, tuple(sorted(user.groups)), extra, namespace, metric)
        until, answer = self._known.get(question, (0.0, False))
        if self._clock() < until:
            return answer
        spec: dict[str, Any] = {
            "user": user.name,
            "groups": list(user.groups),
            "extra": {name: list(values) for name, values in user.extra.items()},
            # The verb that the API server makes of a GET without a name.
            "resourceAttributes": {
                "namespace": namespace, "verb": "list", "group": GROUP, "version": VERSION, "resource": metric,
            },
        }  # fmt: skip
        if user.uid:
            spec["uid"] = user.uid
        body = {"apiVersion": ACCESS_REVIEW.api_version, "kind": ACCESS_REVIEW.name, "spec": spec}
        status = (await self._kube.create(ACCESS_REVIEW, "", body)).get("status") or {}
        answer = bool(status.get("allowed")) and not status.get("denied")
        self._known[question] = (self._clock() + (_YES_S if answer else _NO_S), answer)
        self._known.move_to_end(question)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        return answer
