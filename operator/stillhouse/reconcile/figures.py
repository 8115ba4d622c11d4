"""Who has the cluster's external metrics: looked up now and then, since it changes without an event that we watch."""

from __future__ import annotations

import logging

from stillhouse.clients.kube.interface import Forbidden, Kube
from stillhouse.clients.kube.kinds import API_SERVICE, SCALED_OBJECT
from stillhouse.resources.metrics_api import APISERVICE, Figures, figures_of, owner_of
from stillhouse.resources.wanted import ClusterSettings

__all__ = ["LOOK_S", "look"]

LOOK_S = 15.0

_log = logging.getLogger(__name__)


async def look(kube: Kube, settings: ClusterSettings) -> Figures:
    """Return where mode `hpa` has its figures from, as of now.

    Where the metrics API was turned off, an APIService that it left is removed: nobody serves it any more, and a dead one keeps
    every namespace from ending.

    Raises:
        KubeError: the API server does not say.
    """
    place, service = settings.operator_namespace, settings.metrics_service
    if not service:
        return figures_of(None, place, "", keda=False)
    try:
        live = await kube.get(API_SERVICE, "", APISERVICE)
    except Forbidden:
        return Figures("cpu", f"the operator may not read APIService {APISERVICE}: its ClusterRole lacks it")
    if not settings.metrics_api:
        if live is not None and not owner_of(live, place, service):
            await kube.delete(API_SERVICE, "", APISERVICE, live["metadata"]["uid"])
            _log.info("%s was left by a metrics API that is turned off, and is removed", APISERVICE)
        return figures_of(None, place, "", keda=False)
    found = figures_of(live, place, service, keda=True)
    if found.kind == "keda" and not await kube.serves(SCALED_OBJECT):
        return figures_of(live, place, service, keda=False)
    return found
