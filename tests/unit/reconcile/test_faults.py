"""A whole life of a model with one fault at every place where one can be: it ends as it would have without.

The patterns are Sieve's (OSDI '22): a crash before and after each write (intermediate state), a cache that lags (stale state) or
never saw something (unobserved state); and what servers do: 409, 429, 500, an answer that is lost.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.cluster import DIGEST, NAMESPACE, Cluster, model

from stillhouse.clients.kube.fake import FakeKube
from stillhouse.clients.kube.interface import Body, KubeError, refusal
from stillhouse.clients.kube.kinds import EVENT, MODEL, Kind, by_name
from stillhouse.reconcile.cache import Cache
from stillhouse.reconcile.controller import WATCHED
from stillhouse.reconcile.reconciler import Reconciler

OTHER = "sha256:" + "c" * 64
A, B = model(), model(compress={"precision": "fp32"}, scale={"minReplicas": 2, "maxReplicas": 4})
EXTERNAL = model(compress={"precision": "fp32"}, scale={"mode": "external", "replicas": 3})
FAULTS = ("crash before", "crash after", "409", "429", "500", "answer lost")


class Crash(BaseException):
    """The process is gone: nothing of it catches this."""


class Faulty:
    """`Kube` with one fault at the n-th write; 0: none."""

    def __init__(self, inner: FakeKube, number: int, fault: str) -> None:
        self.inner = inner
        self.number = number
        self.fault = fault
        self.writes = 0

    async def get(self, kind: Kind, namespace: str, name: str) -> Body | None:
        return await self.inner.get(kind, namespace, name)

    async def find(self, kind: Kind, namespace: str = "", labels: str = "") -> list[Body]:
        return await self.inner.find(kind, namespace, labels)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        async def write(*arguments: Any, **options: Any) -> Any:
            self.writes += 1
            if self.writes != self.number:
                return await method(*arguments, **options)
            if self.fault == "crash before":
                raise Crash
            if self.fault in ("409", "429", "500"):
                raise refusal(int(self.fault), "Conflict", "injected", name)
            done = await method(*arguments, **options)
            if self.fault == "crash after":
                raise Crash
            if self.fault == "answer lost":
                raise refusal(503, "", "injected: the answer was lost", name)
            return done

        return write


class Life:
    """A cluster whose operator has a fault coming; after a crash a new process starts with what a list gives it."""

    def __init__(self, number: int, fault: str) -> None:
        self.cluster = Cluster()
        self.kube = Faulty(self.cluster.kube, number, fault)
        self.cluster.reconciler = self._new()

    def _new(self) -> Reconciler:
        return Reconciler(self.kube, self.cluster.cache, self.cluster.settings, clock=self.cluster._clock)  # type: ignore[arg-type]

    def restart(self) -> None:
        self.cluster.cache = Cache()
        for kind in WATCHED:
            for body in self.cluster.run(self.cluster.kube.find(kind)):
                self.cluster.cache.put(body)
        self.cluster.reconciler = self._new()

    def settle(self, name: str = "m") -> None:
        """Reconcile until nothing is written, as the queue would: an error comes back, a crash starts anew."""
        for _ in range(40):
            before = len(self.cluster.kube.writes)
            try:
                self.cluster.reconcile(name)
            except KubeError:
                continue
            except Crash:
                self.restart()
                continue
            if len(self.cluster.kube.writes) == before:
                return
        raise AssertionError(f"it does not settle: {self.cluster.kube.writes[-6:]}")

    def build(self, digest: str) -> None:
        self.settle()
        for stage, told in (
            ("resolve", {"next": "gate"}),
            ("gate", {"next": None, "record": {"digest": digest, "precision": "int8"}}),
        ):
            self.cluster.end(stage, told)
            self.settle()

    def roll(self) -> None:
        self.cluster.roll()
        self.settle()


def whole_life(number: int = 0, fault: str = "") -> tuple[dict[str, Any], int]:
    """Return what is there at the end, and how many writes it took."""
    life = Life(number, fault)
    life.cluster.apply(A)
    life.build(DIGEST)
    life.roll()
    life.cluster.apply(B)
    life.build(OTHER)
    life.roll()
    life.cluster.apply(EXTERNAL)
    life.settle()
    life.roll()
    life.cluster.apply(A)
    life.settle()
    life.roll()
    assert life.cluster.condition("Ready") == ("True", "Serving")
    return everything(life.cluster), life.kube.writes


def everything(cluster: Cluster) -> dict[str, Any]:
    """Return every object but events, without what differs from run to run."""
    found = {}
    for kind in WATCHED:
        for each in cluster.run(cluster.kube.find(kind)):
            body = copy.deepcopy(each)
            meta = body["metadata"]
            for part in ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"):
                meta.pop(part, None)
            for owner in meta.get("ownerReferences") or []:
                owner.pop("uid")
            for condition in (body.get("status") or {}).get("conditions") or []:
                condition.pop("lastTransitionTime", None)
            if kind is not by_name("Deployment"):
                (body.get("status") or {}).pop("observedGeneration", None)
            found[f"{kind.name}/{meta['name']}"] = body
    for body in found.values():
        for condition in (body.get("status") or {}).get("conditions") or []:
            condition.pop("observedGeneration", None)
        (body.get("status") or {}).pop("observedGeneration", None)
    return found


@pytest.fixture(scope="module")
def without_fault() -> tuple[dict[str, Any], int]:
    return whole_life()


def test_the_life_itself(without_fault: tuple[dict[str, Any], int]) -> None:
    end, writes = without_fault
    assert writes > 40
    assert sum(name.startswith("ModelRevision/") for name in end) == 2
    assert not [name for name in end if name.startswith("Job/")]
    assert end["Deployment/m-main"]["spec"]["replicas"] == 3, "the number that ran when the mode changed"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_every_write(fault: str, without_fault: tuple[dict[str, Any], int]) -> None:
    end, writes = without_fault
    for number in range(1, writes + 1):
        found, _ = whole_life(number, fault)
        assert found == end, f"{fault} at write {number}"


@pytest.mark.parametrize("kind", sorted(kind.name for kind in WATCHED))
def test_a_watch_that_went_silent_does_no_harm(kind: str, without_fault: tuple[dict[str, Any], int]) -> None:
    """Its kind is never seen, until a list finds it. What is written meanwhile is right, or is refused by the server."""
    cluster = Cluster()

    def see(event: str, body: dict[str, Any]) -> None:
        if body["kind"] != kind:
            (cluster.cache.drop if event == "DELETED" else cluster.cache.put)(body)

    cluster.kube.watchers[:] = [see]
    life = Life(0, "")
    life.cluster, life.kube = cluster, Faulty(cluster.kube, 0, "")
    cluster.reconciler = life._new()

    def step(what: Callable[[], Any]) -> None:
        what()
        for _ in range(6):  # it may go on writing: it cannot see that it has
            try:
                cluster.reconcile()
            except KubeError:
                continue
        life.restart()
        cluster.kube.watchers[:] = [see]
        life.settle()

    step(lambda: cluster.apply(A))
    step(lambda: cluster.end("resolve", {"next": "gate"}))
    step(lambda: cluster.end("gate", {"next": None, "record": {"digest": DIGEST, "precision": "int8"}}))
    step(cluster.roll)
    assert cluster.condition("Ready") == ("True", "Serving")
    assert len([name for name in everything(cluster) if name.startswith(("ModelRevision/", "Deployment/"))]) == 2


def test_two_operators_at_once_end_as_one(without_fault: tuple[dict[str, Any], int]) -> None:
    one = Life(0, "")
    other_cache = Cache()
    one.cluster.kube.watchers.append(lambda event, body: (other_cache.drop if event == "DELETED" else other_cache.put)(body))
    other = Reconciler(one.cluster.kube, other_cache, one.cluster.settings, clock=one.cluster._clock)
    first = one.settle

    def both(name: str = "m") -> None:
        for _ in range(5):
            for work in (other.reconcile((NAMESPACE, name)), one.cluster.reconciler.reconcile((NAMESPACE, name))):
                try:
                    one.cluster.run(work)
                except KubeError:
                    continue
        first(name)

    one.settle = both  # type: ignore[method-assign]
    one.cluster.apply(A)
    one.build(DIGEST)
    one.roll()
    assert one.cluster.condition("Ready") == ("True", "Serving")
    assert [name for name in everything(one.cluster) if name.startswith("Job/")] == []
    created = [write for write in one.cluster.kube.writes if write[0] == "create" and write[1] != EVENT.name]
    assert len(created) == len(set(created)), "nothing was made twice"


def _source(uri: str) -> dict[str, Any]:
    return model(source={"uri": uri, "task": "sentence-embedding"})


def _scale(mode: str, least: int, most: int, replicas: int) -> dict[str, Any]:
    return model(scale={"mode": mode, "minReplicas": least, "maxReplicas": most, "replicas": replicas})


LONG = st.integers(-(2**63), 2**63 - 1)  # a server makes a float of what is larger
JUNK = st.one_of(st.none(), st.text(max_size=5), st.dictionaries(st.text(max_size=8), LONG, max_size=3))
SMALL = st.integers(0, 5)
SPECS = st.one_of(
    st.sampled_from([A, B, EXTERNAL]),
    st.sampled_from(["int8", "fp32", "auto", "int9", "fp16", 7, None]).map(lambda each: model(compress={"precision": each})),
    st.sampled_from(["models:minilm", "file://x", "x", ""]).map(_source),
    st.builds(_scale, st.sampled_from(["hpa", "cpu", "external", "else"]), SMALL, SMALL, SMALL),
    st.sampled_from([DIGEST, OTHER, "sha256:" + "d" * 64, "x"]).map(lambda each: model(serve={"pin": each})),
    JUNK.map(lambda junk: {**model(), "spec": junk}),
)
DEEDS = st.sampled_from(["build", "fail", "roll", "restart", "delete a child", "edit a child"])


STORIES = st.lists(st.one_of(SPECS, DEEDS), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STORIES)
def test_whatever_comes_a_good_spec_at_the_end_serves(story: list[Any]) -> None:
    """Valid and invalid specs in any order, with builds that succeed and fail between them: nothing wedges."""
    _never_wedges(story)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=700, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STORIES)
def test_two_thousand_changes_never_wedge(story: list[Any]) -> None:
    _never_wedges(story)


def _never_wedges(story: list[Any]) -> None:
    life = Life(0, "")
    life.cluster.apply(A)
    life.settle()
    for deed in story:
        _do(life, deed)
        life.settle()
        statuses = {each["type"]: each["status"] for each in life.cluster.status()["conditions"]}
        assert not (statuses["Ready"] == "True" and statuses["Available"] != "True")
    life.cluster.apply(A)
    life.settle()
    if life.cluster.condition("Ready")[1] not in ("Serving", "RollingOut"):
        body = copy.deepcopy(A)
        body["metadata"]["annotations"] = {"stillhouse.io/rebuild": "the-last"}
        life.cluster.apply(body)
        life.build(DIGEST)
    life.roll()
    assert life.cluster.condition("Ready") == ("True", "Serving")
    deployment = life.cluster.get("Deployment", "m-main")
    assert deployment is not None
    serves = deployment["spec"]["template"]["metadata"]["annotations"]["stillhouse.io/digest"]
    assert serves == life.cluster.status()["revision"]["digest"]


def _do(life: Life, deed: Any) -> None:
    cluster = life.cluster
    if isinstance(deed, dict):
        cluster.apply(deed)
    elif deed == "restart":
        life.restart()
    elif deed in ("build", "fail"):
        found = _running_stage(cluster)
        if found and deed == "build":
            cluster.end(found, {"next": None, "record": {"digest": DIGEST if cluster.moment % 2 else OTHER, "precision": "int8"}})
        elif found:
            cluster.end(found, {"message": "no"}, code=3)
    elif deed == "roll" and cluster.get("Deployment", "m-main"):
        cluster.roll()
    else:
        for kind in ("Service", "NetworkPolicy", "Deployment"):
            body = cluster.get(kind, "m" if kind == "Service" else "m-main")
            if body is None:
                continue
            if deed == "delete a child":
                cluster.run(cluster.kube.delete(by_name(kind), NAMESPACE, body["metadata"]["name"], body["metadata"]["uid"]))
            elif kind == "Service":
                cluster.kube.set({**body, "spec": {**body["spec"], "ports": []}})


def _running_stage(cluster: Cluster) -> str:
    """Return the stage whose Job waits, of the build that is wanted now."""
    body = cluster.get(MODEL.name, "m")
    if body is None:
        return ""
    try:
        request = cluster.request(body)
    except Exception:
        return ""
    for job in cluster.run(cluster.kube.find(by_name("Job"))):
        if job["metadata"]["labels"]["stillhouse.io/request"] == request[:32]:
            return str(job["metadata"]["labels"]["stillhouse.io/stage"])
    return ""
