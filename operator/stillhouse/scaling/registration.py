"""Our place among the cluster's APIs: the APIService and the Secret with the certificate that it trusts.

The name of an APIService is one for the whole cluster. It is taken where it is free, kept where it is ours, and never where it
is another's (KEDA, prometheus-adapter). What is right of a race is decided by the API server: create by POST, patch with the
resourceVersion, delete with the uid.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from stillhouse.clients.kube.interface import AlreadyExists, Body, Kube
from stillhouse.clients.kube.kinds import API_SERVICE, SECRET
from stillhouse.errors import EnvironmentProblem
from stillhouse.resources.labels import MANAGED_BY
from stillhouse.resources.metrics_api import APISERVICE, GROUP, VERSION, owner_of
from stillhouse.scaling.certificates import Pair, Suite, renewed

__all__ = ["LEAVING", "Place", "Registration", "Standing", "unregister"]

LEAVING = "stillhouse.io/leaving"
"""Annotation of the Secret: since when the release is being uninstalled. The APIService is gone and is not made again."""
_LEAVING_LASTS = timedelta(minutes=10)
"""A mark that is older is that of an uninstallation which did not happen."""
_PRIORITY = 100

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where we are: the Service by which the API server reaches us, and the Secret of our certificate, in one namespace."""

    namespace: str
    service: str
    secret: str
    port: int = 443

    @property
    def names(self) -> tuple[str, ...]:
        """Return the DNS names of the Service; the API server uses the first one."""
        return (f"{self.service}.{self.namespace}.svc", f"{self.service}.{self.namespace}.svc.cluster.local")


@dataclass(frozen=True, slots=True)
class Standing:
    """How we stand: `serving` is the certificate to show; `owner` whose the API is, in words, "" where it is ours."""

    serving: Pair
    owner: str = ""


class Registration:
    """Keeps Secret and APIService as they are to be. Two of us do the same, and harm each other in nothing.

    `register` False: the APIService is left to others, and given back where it is ours.
    """

    def __init__(
        self,
        kube: Kube,
        place: Place,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        register: bool = True,
    ) -> None:
        self._kube, self._place, self._clock, self._register = kube, place, clock, register
        self._told = ""

    async def look(self) -> Standing:
        """Do what is to be done now: renew, register.

        Raises:
            EnvironmentProblem: the Secret is not there.
            KubeError: the API server refuses, or another of us was faster (`Conflict`): look again.
        """
        secret, suite = await self._certificate()
        live = await self._kube.get(API_SERVICE, "", APISERVICE)
        if not self._register:
            if live is not None and not owner_of(live, self._place.namespace, self._place.service):
                await self._kube.delete(API_SERVICE, "", APISERVICE, live["metadata"]["uid"])
                _log.info("%s was given back", APISERVICE)
            return Standing(suite.serving, "others: we are not to register")
        if live is None:
            if self._leaves(secret):
                return Standing(suite.serving)
            try:
                live = await self._kube.create(API_SERVICE, "", self._wanted(suite.bundle))
                _log.info("%s is ours now", APISERVICE)
            except AlreadyExists:
                live = await self._kube.get(API_SERVICE, "", APISERVICE) or self._wanted(suite.bundle)
        owner = owner_of(live, self._place.namespace, self._place.service)
        if owner != self._told and owner:
            _log.warning("%s belongs to %s and is left alone; models scale by that, or by CPU", APISERVICE, owner)
        self._told = owner
        if not owner:
            await self._keep(live, suite.bundle)
        return Standing(suite.serving, owner)

    async def _certificate(self) -> tuple[Body, Suite]:
        place = self._place
        secret = await self._kube.get(SECRET, place.namespace, place.secret)
        if secret is None:
            raise EnvironmentProblem(
                "the Secret of the metrics API's certificate is not there",
                field=f"Secret {place.namespace}/{place.secret}",
                fix="helm upgrade brings it back, empty; it is filled here",
            )
        kept = _read(secret)
        suite = renewed(kept, place.names, self._clock())
        if suite is not kept:
            patch = {"metadata": {"resourceVersion": secret["metadata"]["resourceVersion"]}, "data": _data(suite)}
            secret = await self._kube.patch(SECRET, place.namespace, place.secret, patch)
            _log.info("the metrics API has a new certificate")
        return secret, suite

    def _leaves(self, secret: Body) -> bool:
        since = (secret["metadata"].get("annotations") or {}).get(LEAVING, "")
        try:
            return bool(since) and self._clock() - datetime.fromisoformat(since) < _LEAVING_LASTS
        except (ValueError, TypeError):
            return False

    def _spec(self, bundle: bytes) -> dict[str, Any]:
        place = self._place
        return {
            "group": GROUP,
            "version": VERSION,
            "groupPriorityMinimum": _PRIORITY,
            "versionPriority": _PRIORITY,
            "service": {"namespace": place.namespace, "name": place.service, "port": place.port},
            "caBundle": base64.b64encode(bundle).decode(),
        }

    def _wanted(self, bundle: bytes) -> dict[str, Any]:
        meta = {"name": APISERVICE, "labels": {"app.kubernetes.io/name": "stillhouse", MANAGED_BY: "stillhouse"}}
        return {"apiVersion": API_SERVICE.api_version, "kind": API_SERVICE.name, "metadata": meta, "spec": self._spec(bundle)}

    async def _keep(self, live: Body, bundle: bytes) -> None:
        spec = self._spec(bundle)
        if {name: (live.get("spec") or {}).get(name) for name in spec} == spec:
            return
        patch = {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}, "spec": spec}
        await self._kube.patch(API_SERVICE, "", APISERVICE, patch)


async def unregister(kube: Kube, place: Place, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> bool:
    """Remove the APIService where it is ours, and keep those of us that still run from making it again; return whether it was.

    Raises:
        KubeError: the API server refuses.
    """
    mark = {"metadata": {"annotations": {LEAVING: clock().isoformat(timespec="seconds")}}}
    if await kube.get(SECRET, place.namespace, place.secret) is not None:
        await kube.patch(SECRET, place.namespace, place.secret, mark)
    live = await kube.get(API_SERVICE, "", APISERVICE)
    if live is None or owner_of(live, place.namespace, place.service):
        return False
    await kube.delete(API_SERVICE, "", APISERVICE, live["metadata"]["uid"])
    return True


_FIELDS = ("ca.crt", "authority.crt", "authority.key", "tls.crt", "tls.key")


def _read(secret: Mapping[str, Any]) -> Suite | None:
    data = secret.get("data") or {}
    try:
        parts = [base64.b64decode(data[name], validate=True) for name in _FIELDS]
    except (KeyError, TypeError, binascii.Error):
        return None
    return Suite(parts[0], Pair(parts[1], parts[2]), Pair(parts[3], parts[4]))


def _data(suite: Suite) -> dict[str, str]:
    parts = (suite.bundle, suite.authority.certificate, suite.authority.key, suite.serving.certificate, suite.serving.key)
    return {name: base64.b64encode(part).decode() for name, part in zip(_FIELDS, parts, strict=True)}
