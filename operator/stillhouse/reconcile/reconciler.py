"""The story of one reconcile: observe, decide, build or serve, say what is. It can be left at any line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from stillhouse.api.model import API_VERSION
from stillhouse.api.revision import REVISION_KIND
from stillhouse.clients.kube.interface import Body, Conflict, Forbidden, Invalid, Kube, KubeError, Missing, Unavailable
from stillhouse.clients.kube.kinds import EVENT, MODEL, MONITOR, POD, SCALED_OBJECT, SLICE
from stillhouse.reconcile.admission import Admission, said_place, wait_s
from stillhouse.reconcile.apply import FormersChild, NotOwned, create_once, ensure, remove
from stillhouse.reconcile.bridged import Bridged
from stillhouse.reconcile.building import FIRST_STAGE, RECORD_UNREADABLE, STARTING, Build, next_of
from stillhouse.reconcile.cache import Cache, Key
from stillhouse.reconcile.conditions import Ahead, status
from stillhouse.reconcile.decide import Decision, Verdict, decide
from stillhouse.reconcile.desired import KINDS, children
from stillhouse.reconcile.events import transitions
from stillhouse.reconcile.front import NONE, Front, front, settled
from stillhouse.reconcile.needed import needed
from stillhouse.reconcile.observed import Observed, owned
from stillhouse.reconcile.same import marked, patch_of, same
from stillhouse.reconcile.secrets import LOOK_AGAIN_S, absent, absent_of_bridge, unusable
from stillhouse.reconcile.stand import live_gateway
from stillhouse.reconcile.storage import Storage
from stillhouse.resources import labels, names
from stillhouse.resources.jobs import job
from stillhouse.resources.metrics_api import Figures
from stillhouse.resources.wanted import ClusterSettings, metadata

__all__ = ["Reconciler", "now"]

_COLLECTED_S = 2.0
"""After that long a model looks again for what a deleted namesake left; mostly the object's end is told before."""
_UNKNOWN = (0, 502, 503, 504)
"""No answer, or none from behind a proxy: the object may be there. All other refusals are definite."""


def now() -> str:
    """Return the time, RFC 3339 in UTC, in whole seconds as Kubernetes writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class Reconciler:
    """Brings one model at a time to what its spec asks for. Keeps nothing between two calls but the cache that it is given."""

    def __init__(
        self, kube: Kube, cache: Cache, settings: ClusterSettings, *, instance: str = "stillhouse", clock: Callable[[], str] = now
    ) -> None:
        self._kube = kube
        self._cache = cache
        self._settings = settings
        self._instance = instance
        self._clock = clock
        self._admission = Admission(settings.max_concurrent_builds)
        self._storage = Storage(kube, settings.store_claim)
        self.monitors = False
        """Whether the cluster knows ServiceMonitors; whoever lists it finds out."""
        self.figures = Figures("cpu", "it is not known yet whose the external metrics are")
        """What mode `hpa` goes by; whoever looks for it finds out."""

    async def reconcile(self, key: Key) -> float:
        """Do for a model what is to be done now; what is still going on comes back as an event.

        Return after how many seconds to come back, 0 where an event will say so: what waits for other models is told by none.

        Raises:
            KubeError: the server did not do something; the status says it where that could be written. Come back later.
        """
        observed = self._cache.observe(key)
        if observed is None or observed.model["metadata"].get("deletionTimestamp"):
            self._admission.forget(key)
            return 0.0  # children go with their owner, by Kubernetes' garbage collection
        decision = self._decide(observed)
        failed: Verdict | None = None
        error: KubeError | None = None
        progress, wait = "", 0.0
        stuck: Verdict | None = None
        apart: Verdict | None = None
        deployment: Body | None = None
        before, gateway, lacks, wants = NONE, None, None, None
        try:
            build = next_of(observed, decision)
            if build.silent is not None:
                observed = await self._look_for_pods(observed, build.silent)
                build = next_of(observed, decision, asked=True)
            if build.outcome is not None:
                observed = await self._record(observed, decision, build.outcome.spec)
                decision = self._decide(observed)
                build = next_of(observed, decision)
            decision, build, again = await self._allowed(observed, decision, build)
            build, wait = self._admitted(key, observed, build)
            wait = wait or again
            progress, stuck = build.progress, build.trouble
            # First what must go: it has its record, or nobody wants it, whatever becomes of the rest.
            await self._remove(build)
            before = await self._front(observed, decision)
            deployment, gateway = await self._serve(observed, decision, before)
            wait = min(filter(None, (wait, before.wait)), default=0.0)
            lacks = await absent(self._kube, observed.owner, before.gateway, gateway, self._settings)
            wants = await absent_of_bridge(self._kube, observed.owner, decision.mqtt, self._bridge(observed), self._settings)
            wait = min(filter(None, (wait, LOOK_AGAIN_S if lacks or wants else 0.0)), default=0.0)
            await self._build(observed, decision, build)
            await self._forget(decision)
            apart = await self._storage.unshared(observed.owner.namespace, observed.pods)
            together = decision.builds.workers > 1 and build.progress.startswith("train: ")
            if apart and (together or progress.endswith(STARTING)):
                progress = f"{progress}: {apart.message}"
        except NotOwned as stranger:
            failed = Verdict(stranger.reason, " ".join(" ".join(stranger.problem.lines()).split()))
            wait = _COLLECTED_S if isinstance(stranger, FormersChild) else wait
        except KubeError as refused:
            error = refused
            if isinstance(refused, Forbidden | Invalid):
                failed = Verdict("ApplyFailed", refused.problem.found)
        finally:
            lost = stuck is not None and stuck.reason == RECORD_UNREADABLE  # its Jobs have ended, and nothing follows
            refused_it = failed is not None or (error is not None and not isinstance(error, Conflict))
            self._admission.done(key, stuck=lost or refused_it)
        if error is not None and failed is None and (not _told(observed) or self._behind(observed, decision, deployment, before)):
            # What is there is of the spec, or of the revision, before: its readiness must not be told as that of this one.
            if isinstance(error, Conflict):
                raise error  # what is newer comes at once
            failed = Verdict("ApplyFailed", error.problem.found)
        name_of = observed.owner.name
        name = names.workload(name_of)
        gateway = gateway or (observed.child(before.gateway.edge.run.kind, names.gateway(name_of)) if before.gateway else None)
        gateway = gateway or (live_gateway(observed) if decision.steps or before.held else None)
        ahead = Ahead(before, gateway, lacks)
        bridged = Bridged(decision.mqtt, self._bridge(observed), wants)
        live = deployment or observed.child("Deployment", name)
        await self._say(observed, decision, live, ahead, bridged, progress, failed, stuck, apart)
        if error is not None:
            raise error
        return wait

    def _decide(self, observed: Observed) -> Decision:
        return decide(observed, self._settings.sources, self._settings.edge_packages)

    async def _allowed(self, observed: Observed, decision: Decision, build: Build) -> tuple[Decision, Build, float]:
        """Return what may be done of a build as far as Secrets go; they are looked at before the Job that gets them is made."""
        if build.stage != FIRST_STAGE:
            return decision, build, 0.0
        refused = await unusable(self._kube, observed.owner, observed.model["spec"], self._settings)
        if refused is None:
            return decision, build, 0.0
        return replace(decision, refused=refused, build=False), replace(build, stage="", progress=""), LOOK_AGAIN_S

    def _admitted(self, key: Key, observed: Observed, build: Build) -> tuple[Build, float]:
        """Return what may be done of a build now: its first Job waits until fewer than `max_concurrent_builds` go on."""
        if build.stage != FIRST_STAGE:
            self._admission.forget(key)
            return build, 0.0
        created = str(observed.model["metadata"].get("creationTimestamp", ""))
        position = self._admission.ask(key, created, self._cache.building(), self._cache.between())
        if position == 0:
            return build, 0.0
        progress = f"queued: {said_place(position)} of those that wait for a build to end"
        return replace(build, stage="", progress=progress), wait_s(position)

    async def _front(self, observed: Observed, decision: Decision) -> Front:
        """Return who answers clients. Slices are asked for where a gateway waits to go, and only there."""
        moment = self._clock()
        found = front(observed, decision, moment)
        if found.leaving != "settling":
            return found
        owner = observed.owner
        chosen = {"kubernetes.io/service-name": names.client_service(owner.name)}
        slices = await self._kube.find(SLICE, owner.namespace, labels.query(chosen))
        return front(observed, decision, moment, settled=settled(observed, slices))

    def _bridge(self, observed: Observed) -> Body | None:
        """Return the bridge's workload as it is now, our own write of just now included."""
        owner = observed.owner
        newest = self._cache.observe((owner.namespace, owner.name)) or observed
        return newest.child("Deployment", names.bridge(owner.name))

    def _wanted(self, observed: Observed, decision: Decision, ahead: Front) -> list[Body]:
        return children(observed.owner, decision, self._settings, monitors=self.monitors, figures=self.figures, front=ahead)

    async def _serve(self, observed: Observed, decision: Decision, ahead: Front) -> tuple[Body | None, Body | None]:
        """Write the serving children that differ, remove those that are not wanted; return Deployment and gateway's workload."""
        wanted = self._wanted(observed, decision, ahead)
        found: dict[str, Body] = {}
        places = {(each["kind"], each["metadata"]["name"]) for each in wanted}
        # First what goes: of two autoscalers of one Deployment neither works, and one that is left would undo `replicas`.
        for place, live in observed.children.items():
            if place[0] in KINDS and place not in places and place not in ahead.kept and owned(live, observed.owner.uid):
                await remove(self._kube, live)
        for each in wanted:
            place = (each["kind"], each["metadata"]["name"])
            known = observed.child(*place)
            if decision.frozen and known is not None:
                continue
            try:
                applied = await ensure(self._kube, each, known, observed.owner.uid)
            except Missing:
                if each["kind"] not in (MONITOR.name, SCALED_OBJECT.name):
                    raise
                self.monitors &= each["kind"] != MONITOR.name  # its definition went: it is looked for again, by and by
                continue
            if applied.written:
                self._cache.wrote(applied.body)
            if each["kind"] in ("Deployment", "DaemonSet"):
                found[each["metadata"]["name"]] = applied.body
        return found.get(names.workload(observed.owner.name)), found.get(names.gateway(observed.owner.name))

    def _behind(self, observed: Observed, decision: Decision, written: Body | None, ahead: Front) -> bool:
        """Return whether the Deployment that is there is not the one that is wanted: an error came before it was written."""
        name = names.workload(observed.owner.name)
        live = observed.child("Deployment", name)
        if written is not None or live is None or decision.frozen:
            return False
        wanted = [each for each in self._wanted(observed, decision, ahead) if each["kind"] == "Deployment"]
        return any(each["metadata"]["name"] == name and not same(marked(each), live) for each in wanted)

    async def _remove(self, build: Build) -> None:
        for live in build.remove:
            if not live["metadata"].get("deletionTimestamp"):
                await remove(self._kube, live)

    async def _build(self, observed: Observed, decision: Decision, build: Build) -> None:
        if not build.stage or decision.measured is None:
            return
        spec = observed.model["spec"]
        rebuild = (observed.model["metadata"].get("annotations") or {}).get(labels.REBUILD, "")
        bound, measured = dict(decision.bound), decision.measured
        told = needed(self._cache, observed.owner.namespace) if build.stage == FIRST_STAGE else None
        builds = replace(decision.builds, needed=told)
        body = job(observed.owner, decision.request, build.stage, spec, bound, self._settings, measured, builds, rebuild)
        try:
            self._cache.wrote(await create_once(self._kube, body, observed.owner.uid))
        except Unavailable as error:
            if error.status in _UNKNOWN:
                self._admission.unsure((observed.owner.namespace, observed.owner.name))
            raise

    async def _forget(self, decision: Decision) -> None:
        """Delete the records that nobody needs any more."""
        for record in decision.expired:
            await remove(self._kube, record)
            self._cache.drop(record)

    async def _look_for_pods(self, observed: Observed, job: Body) -> Observed:
        """Ask the server for a Job's pods: their watch may be behind, and what they said is needed once."""
        owner, marks = observed.owner, job["metadata"]["labels"]
        chosen = {name: marks[name] for name in (labels.MODEL, labels.REQUEST, labels.STAGE)}
        for pod in await self._kube.find(POD, owner.namespace, labels.query(chosen)):
            self._cache.put(pod)
        return self._cache.observe((owner.namespace, owner.name)) or observed

    async def _record(self, observed: Observed, decision: Decision, spec: Mapping[str, Any]) -> Observed:
        """Write the ModelRevision of a finished build; another operator may have."""
        owner = observed.owner
        meta = metadata(owner, names.revision(owner.name, decision.request), "build")
        body = {"apiVersion": API_VERSION, "kind": REVISION_KIND, "metadata": meta, "spec": dict(spec)}
        self._cache.wrote(await create_once(self._kube, body, owner.uid))
        return self._cache.observe((owner.namespace, owner.name)) or observed

    async def _say(
        self,
        observed: Observed,
        decision: Decision,
        deployment: Body | None,
        ahead: Ahead,
        bridged: Bridged,
        progress: str,
        failed: Verdict | None,
        stuck: Verdict | None,
        apart: Verdict | None,
    ) -> None:
        """Write the status where it differs from what is there, and tell of its transitions."""
        before: dict[str, Any] = observed.model.get("status") or {}
        why: dict[str, Any]
        why, moment = {"failed": failed, "stuck": stuck, "apart": apart, "ahead": ahead, "bridged": bridged}, self._clock()
        after = status(observed, decision, deployment, figures=self.figures, progress=progress, **why, now=moment)
        if after == before:
            return
        meta = observed.model["metadata"]
        patch = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": patch_of(before, after)}
        self._cache.wrote(await self._kube.patch(MODEL, meta["namespace"], meta["name"], patch, subresource="status"))
        for event in transitions(observed.owner, before, after, self._instance, moment):
            try:
                await self._kube.create(EVENT, meta["namespace"], event)
            except KubeError:
                continue  # the status says it too; an event that cannot be written must stop nothing


def _told(observed: Observed) -> bool:
    """Return whether the status is of the spec as it is now, and what that asks for could be written."""
    status: Body = observed.model.get("status") or {}
    ready: Body = next((each for each in status.get("conditions") or [] if each["type"] == "Ready"), {})
    return status.get("observedGeneration") == observed.generation and ready.get("reason") != "ApplyFailed"
