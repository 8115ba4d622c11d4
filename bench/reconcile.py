"""`python -m bench.reconcile`: how fast the operator makes what many models need, and what it costs while nothing happens.

A real API server with its etcd and, beside it, nothing else: no controller and no node compete for the two cores, so what is
timed is the operator and the API server. Every model's revision exists before the operator starts. Timed is from its first
create to its last, by the API server's audit log; what counts as an object is a child (seven of each model).

`ceiling` is a bare asyncio client (aiohttp, no framework) that sends the very same requests, children, status and events,
to another namespace of the same server in the same run, as many at once as the operator has workers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from kubernetes import client
from tests.support.cluster import SOURCES, model, record
from tests.support.kube.binaries import provide
from tests.support.kube.control_plane import ControlPlane, running_control_plane
from tests.support.operator_process import Operator, install_crds, running_operator

from bench.harness.errors import BenchError
from bench.harness.goals import judge
from bench.harness.results import write_results
from bench.harness.rounds import Spread
from stillhouse.api.load import parse
from stillhouse.clients.kube.api import USER_AGENT
from stillhouse.planning.build import request_hash
from stillhouse.reconcile.controller import WORKERS
from stillhouse.resources import names

CHILDREN = ("serviceaccounts", "networkpolicies", "services", "deployments", "poddisruptionbudgets", "horizontalpodautoscalers")
CHILDREN_EACH = 7
# KServe's controller (raw mode, August 2026) on a machine of two such cores: 200 services, each a Deployment, a Service and an
# HPA, in 20 s, and 92 MB. Measured there and then, not beside us.
KSERVE_OBJECTS_PER_SECOND = 30.0
GOALS = {
    "share_of_ceiling": ">= 0.7",
    "times_kserve": ">= 2",
    "last_100_vs_first_100": ">= 0.8",
    "rss_mb": "<= 150",
    "idle_writes_per_minute": "= 0",
    "idle_cpu_percent": "<= 2",
    "takeover_s": "<= 20",
    "release_s": "<= 2",
}


@dataclass(frozen=True)
class Round:
    """The figures of one round."""

    number: int
    figures: dict[str, float]
    quiet: bool = True
    kept: bool = True

    def to_json(self) -> dict[str, object]:
        """For the result file."""
        return {"round": self.number, **{name: round(value, 4) for name, value in self.figures.items()}}


@dataclass(frozen=True)
class Writes:
    """The operator's writes in one namespace, oldest first: (seconds, verb, resource, name)."""

    rows: list[tuple[float, str, str, str]]

    def children(self) -> list[tuple[float, str, str, str]]:
        return [row for row in self.rows if row[1] == "create" and row[2] in CHILDREN]


def writes_of(plane: ControlPlane, agent: str, namespace: str) -> Writes:
    """Read the audit log."""
    rows = []
    for event in plane.audit_events():
        reference = event.get("objectRef", {})
        if not event.get("userAgent", "").startswith(agent) or reference.get("namespace") != namespace:
            continue
        moment = datetime.fromisoformat(event["stageTimestamp"]).timestamp()
        rows.append((moment, event["verb"], reference["resource"], reference.get("name", "")))
    return Writes(sorted(rows))


class Bare:
    """A client with nothing around it."""

    def __init__(self, plane: ControlPlane, agent: str) -> None:
        import ssl

        self.plane = plane
        context = ssl.create_default_context(cafile=str(plane.ca_file))
        headers = {"Authorization": f"Bearer {plane.token}", "User-Agent": agent}
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=64), headers=headers, trust_env=False
        )

    async def send(self, method: str, path: str, body: Any = None, form: str = "application/json") -> Any:
        data = None if body is None else json.dumps(body)
        async with self.session.request(method, self.plane.url + path, data=data, headers={"Content-Type": form}) as answer:
            content = await answer.read()
            if answer.status >= 300:
                raise BenchError(f"{method} {path}: {answer.status} {content[:300]!r}")
            return json.loads(content)

    async def all(self, work: Sequence[Any], at_once: int) -> None:
        """Await coroutine functions, some at once."""
        waiting: Iterator[Any] = iter(work)

        async def worker() -> None:
            for each in waiting:
                await each()

        await asyncio.gather(*(worker() for _ in range(at_once)))


def _path(group: str, namespace: str, plural: str) -> str:
    root = "/api/v1" if group == "v1" else f"/apis/{group}"
    return f"{root}/namespaces/{namespace}/{plural}"


async def prepare(plane: ControlPlane, namespace: str, count: int) -> None:
    """Create a namespace with models whose revisions exist."""
    bare = Bare(plane, "bench-setup")
    base = _path("stillhouse.io/v1alpha1", namespace, "")
    await bare.send("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})

    def one(number: int) -> Any:
        async def work() -> None:
            body = model(f"model-{number:04}")
            body["metadata"]["namespace"] = namespace
            made = await bare.send("POST", base + "distilledmodels", body)
            request = request_hash(parse(body), SOURCES)
            reference = {
                "apiVersion": body["apiVersion"], "kind": body["kind"], "name": body["metadata"]["name"],
                "uid": made["metadata"]["uid"], "controller": True,
            }  # fmt: skip
            meta = {
                "name": names.revision(body["metadata"]["name"], request),
                "labels": {"stillhouse.io/model": body["metadata"]["name"]},
                "ownerReferences": [reference],
            }
            said = {"requestHash": request, "outcome": "Accepted", "reason": "GatePassed"}
            spec = {**record(), "model": body["metadata"]["name"], **said}
            revision = {"apiVersion": body["apiVersion"], "kind": "ModelRevision", "metadata": meta, "spec": spec}
            await bare.send("POST", base + "modelrevisions", revision)

        return work

    try:
        await bare.all([one(number) for number in range(count)], 16)
    finally:
        await bare.session.close()


async def ceiling(plane: ControlPlane, source: str, target: str, count: int) -> float:
    """Send what the operator sent in `source` to `target`; return seconds from the first child to the last."""
    bare = Bare(plane, "bench-ceiling")
    groups = {
        "serviceaccounts": "v1", "networkpolicies": "networking.k8s.io/v1", "services": "v1", "deployments": "apps/v1",
        "poddisruptionbudgets": "policy/v1", "horizontalpodautoscalers": "autoscaling/v2", "events": "events.k8s.io/v1",
    }  # fmt: skip
    crd = _path("stillhouse.io/v1alpha1", target, "distilledmodels")
    try:
        found: dict[str, list[tuple[str, Any]]] = {}
        statuses: dict[str, Any] = {}
        for plural, group in groups.items():
            for item in (await bare.send("GET", _path(group, source, plural)))["items"]:
                meta = item["metadata"]
                owner = item.get("regarding", {}).get("name") or (meta.get("labels") or {}).get("stillhouse.io/model")
                if not owner:
                    continue
                slim = {key: value for key, value in meta.items() if key in ("name", "labels", "annotations", "ownerReferences")}
                body = {key: value for key, value in item.items() if key not in ("status", "metadata", "kind", "apiVersion")}
                if "regarding" in body:
                    body["regarding"] = {**body["regarding"], "namespace": target}
                body["apiVersion"] = group
                found.setdefault(owner, []).append((_path(group, target, plural), {**body, "metadata": slim}))
        order = {plural: position for position, plural in enumerate((*CHILDREN, "events"))}
        for item in (await bare.send("GET", _path("stillhouse.io/v1alpha1", source, "distilledmodels")))["items"]:
            statuses[item["metadata"]["name"]] = item["status"]

        def one(owner: str) -> Any:
            async def work() -> None:
                mine = sorted(found[owner], key=lambda each: order[each[0].rpartition("/")[2]])
                for path, body in [each for each in mine if not each[0].endswith("/events")]:
                    await bare.send("POST", path, body)
                await bare.send("PATCH", f"{crd}/{owner}/status", {"status": statuses[owner]}, "application/merge-patch+json")
                for path, body in [each for each in mine if each[0].endswith("/events")]:
                    await bare.send("POST", path, body)

            return work

        if len(found) != count:
            raise BenchError(f"{len(found)} models have children, not {count}")
        await bare.all([one(owner) for owner in sorted(found)], WORKERS)
    finally:
        await bare.session.close()
    await asyncio.sleep(1.0)
    rows = writes_of(plane, "bench-ceiling", target).children()
    return rows[-1][0] - rows[0][0]


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def operator_in(plane: ControlPlane, folder: Path, namespace: str, identity: str) -> Iterator[Operator]:
    place = {"namespace": namespace, "lease_namespace": namespace, "sources": SOURCES}
    with running_operator(plane, folder, identity=identity, **place) as running:  # type: ignore[arg-type]
        yield running


def _until(what: Any, seconds: float, why: str, every: float = 0.02) -> float:
    """Wait for something; return how long it took. Asking a process for its metrics takes some of its CPU."""
    start = time.monotonic()
    while not what():
        if time.monotonic() - start > seconds:
            raise BenchError(f"{why}: not within {seconds:.0f} s")
        time.sleep(every)
    return time.monotonic() - start


def led_since(plane: ControlPlane, namespace: str, operator: Operator) -> float:
    """Wait until an operator leads; return since when, seconds since the epoch, by what it wrote into the Lease."""
    _until(lambda: operator.metric("stillhouse_leader") == 1, 60, "leadership", every=0.5)
    with plane.client() as api:
        lease = client.CoordinationV1Api(api).read_namespaced_lease("stillhouse-operator", namespace)
    if lease.spec.holder_identity != operator.identity:
        raise BenchError(f"{lease.spec.holder_identity} has the Lease, not {operator.identity}")
    return float(lease.spec.acquire_time.timestamp())


def one_round(plane: ControlPlane, folder: Path, number: int, count: int, idle_s: float) -> dict[str, float]:
    """Measure one round in namespaces of its own."""
    source, target = f"ours-{number}", f"bare-{number}"
    asyncio.run(prepare(plane, source, count))
    asyncio.run(prepare(plane, target, count))
    found: dict[str, float] = {}
    with operator_in(plane, folder, source, "one") as operator:
        process = psutil.Process(operator.process.pid)
        before, born = _cpu(process), process.create_time()

        def settled() -> bool:
            return operator.metric("stillhouse_reconciles_total") >= count and operator.metric("stillhouse_queue_depth") == 0

        _until(settled, 900, "children", every=0.5)
        time.sleep(2.0)
        writes = writes_of(plane, USER_AGENT, source)
        children = writes.children()
        if len(children) != count * CHILDREN_EACH:
            raise BenchError(f"{len(children)} children were created, not {count * CHILDREN_EACH}")
        seconds = children[-1][0] - children[0][0]
        done = sorted(max(row[0] for row in children if _model(row) == name) for name in {_model(row) for row in children})
        part = min(100, count // 2)
        first, last = done[part - 1] - children[0][0], done[-1] - done[-part - 1]
        found |= {
            "objects_per_second": len(children) / seconds,
            "operator_cpu_ms_per_model": (_cpu(process) - before) / count * 1000,
            "last_100_vs_first_100": first / last,
            "writes_per_model": len(writes.rows) / count,
            "start_to_last_child_s": children[-1][0] - born,
            "rss_mb": process.memory_info().rss / 1e6,
        }
        at, cpu = time.monotonic(), _cpu(process)
        time.sleep(idle_s)
        spent = time.monotonic() - at
        later = [row for row in writes_of(plane, USER_AGENT, source).rows if row[2] != "leases"]
        found["idle_writes_per_minute"] = (len(later) - len([row for row in writes.rows if row[2] != "leases"])) / spent * 60
        found["idle_cpu_percent"] = (_cpu(process) - cpu) / spent * 100
        found["rss_mb"] = max(found["rss_mb"], process.memory_info().rss / 1e6)
        with operator_in(plane, folder, source, "two") as second:
            began = time.time()
            operator.process.send_signal(signal.SIGKILL)
            found["takeover_s"] = led_since(plane, source, second) - began
            with operator_in(plane, folder, source, "three") as third:
                began = time.time()
                second.process.send_signal(signal.SIGTERM)
                found["release_s"] = led_since(plane, source, third) - began
    bare_s = asyncio.run(ceiling(plane, source, target, count))
    found["ceiling_objects_per_second"] = count * CHILDREN_EACH / bare_s
    found["share_of_ceiling"] = found["objects_per_second"] / found["ceiling_objects_per_second"]
    found["times_kserve"] = found["objects_per_second"] / KSERVE_OBJECTS_PER_SECOND
    return found


def _model(row: tuple[float, str, str, str]) -> str:
    """Return the model of a child by its name, such as model-0001-main-backend."""
    return "-".join(row[3].split("-")[:2])


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, write `bench/results/reconcile.json`, print and judge."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="bench.reconcile", description=__doc__, formatter_class=shape)
    parser.add_argument("--models", type=int, default=1000, help="models of each round (1000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (3)")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds that it is watched doing nothing (60)")
    parser.add_argument("--name", default="reconcile", help="name of the results' file")
    options = parser.parse_args(arguments)
    rounds: list[Round] = []
    for number in range(options.rounds):
        # A server of its own for each round: what a former one left must not weigh on the next.
        with tempfile.TemporaryDirectory() as folder, running_control_plane(provide(("etcd", "kube-apiserver"))) as plane:
            install_crds(plane)
            found = one_round(plane, Path(folder), number, options.models, options.idle)
            rounds.append(Round(number, found))
            print(f"round {number + 1}: " + ", ".join(f"{name} {value:.2f}" for name, value in found.items()), file=sys.stderr)
    keys = list(dict.fromkeys(key for each in rounds for key in each.figures))
    ratios = {key: Spread.of([each.figures[key] for each in rounds if key in each.figures]) for key in keys}
    settings = {"models": options.models, "rounds": options.rounds, "idle_s": options.idle, "cores": os.cpu_count()}
    write_results(options.name, settings=settings, runs=rounds, ratios=ratios)
    return judge(GOALS, ratios)


if __name__ == "__main__":
    sys.exit(main())
