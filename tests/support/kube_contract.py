"""What every `Kube` must do. Each case is a coroutine that is given one and a namespace of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stillhouse.clients.kube.interface import AlreadyExists, Conflict, Kube, KubeError, Missing
from stillhouse.clients.kube.kinds import CONFIG_MAP, DEPLOYMENT, SECRET, SERVICE, Kind
from stillhouse.reconcile.apply import NotOwned, ensure, remove
from stillhouse.reconcile.same import marked, same

__all__ = ["CASES", "Case"]

Case = Callable[[Kube, str], Awaitable[None]]


def config(namespace: str, name: str = "c", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def service(namespace: str, owner: str, **spec: Any) -> dict[str, Any]:
    meta = {"name": "s", "namespace": namespace, "ownerReferences": [reference(owner)]}
    ports = [{"name": "grpc", "port": 8001, "targetPort": "grpc", "protocol": "TCP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"clusterIP": "None", "selector": {"a": "b"}, "ports": ports, **spec},
    }


def deployment(namespace: str, owner: str, **spec: Any) -> dict[str, Any]:
    labels = {"a": "b"}
    pod = {"containers": [{"name": "c", "image": "localhost/none", "env": [{"name": "A", "value": "1"}]}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": namespace, "ownerReferences": [reference(owner)]},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}, **spec},
    }


def reference(uid: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, "controller": True}


async def owner(kube: Kube, namespace: str) -> str:
    made = await kube.create(CONFIG_MAP, namespace, config(namespace, "owner"))
    return str(made["metadata"]["uid"])


async def an_object_is_created_once(kube: Kube, namespace: str) -> None:
    made = await kube.create(CONFIG_MAP, namespace, config(namespace, a="1"))
    assert made["metadata"]["uid"]
    assert made["metadata"]["resourceVersion"]
    with pytest.raises(AlreadyExists):
        await kube.create(CONFIG_MAP, namespace, config(namespace, a="2"))
    found = await kube.get(CONFIG_MAP, namespace, "c")
    assert found is not None
    assert found["data"] == {"a": "1"}
    assert await kube.get(CONFIG_MAP, namespace, "another") is None


async def lists_are_chosen_by_labels(kube: Kube, namespace: str) -> None:
    for name, label in (("one", "x"), ("two", "y"), ("three", "x")):
        body = config(namespace, name)
        body["metadata"]["labels"] = {"l": label, "all": "yes"}
        await kube.create(CONFIG_MAP, namespace, body)
    found = await kube.find(CONFIG_MAP, namespace, "all=yes,l=x")
    assert sorted(each["metadata"]["name"] for each in found) == ["one", "three"]
    assert {(each["apiVersion"], each["kind"]) for each in found} == {("v1", "ConfigMap")}


async def an_apply_needs_the_uid_of_what_is_there(kube: Kube, namespace: str) -> None:
    made = await kube.create(CONFIG_MAP, namespace, config(namespace, a="1"))
    other = config(namespace, a="2")
    other["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(Conflict):
        await kube.apply(CONFIG_MAP, namespace, other)
    other["metadata"]["uid"] = made["metadata"]["uid"]
    assert (await kube.apply(CONFIG_MAP, namespace, other))["data"] == {"a": "2"}
    gone = config(namespace, "never", a="2")
    gone["metadata"]["uid"] = made["metadata"]["uid"]
    with pytest.raises((Missing, Conflict)):
        await kube.apply(CONFIG_MAP, namespace, gone)
    assert await kube.get(CONFIG_MAP, namespace, "never") is None


async def a_delete_takes_the_object_of_that_uid_alone(kube: Kube, namespace: str) -> None:
    made = await kube.create(CONFIG_MAP, namespace, config(namespace))
    with pytest.raises(Conflict):
        await kube.delete(CONFIG_MAP, namespace, "c", "00000000-0000-0000-0000-000000000000")
    await kube.delete(CONFIG_MAP, namespace, "c", made["metadata"]["uid"])
    assert await kube.get(CONFIG_MAP, namespace, "c") is None
    await kube.delete(CONFIG_MAP, namespace, "c", made["metadata"]["uid"])


async def a_patch_of_an_older_version_is_refused(kube: Kube, namespace: str) -> None:
    made = await kube.create(CONFIG_MAP, namespace, config(namespace, a="1"))
    version = {"resourceVersion": made["metadata"]["resourceVersion"]}
    after = await kube.patch(CONFIG_MAP, namespace, "c", {"metadata": version, "data": {"b": "2"}})
    assert after["data"] == {"a": "1", "b": "2"}
    with pytest.raises(Conflict):
        await kube.patch(CONFIG_MAP, namespace, "c", {"metadata": version, "data": {"b": "3"}})
    assert (await kube.patch(CONFIG_MAP, namespace, "c", {"data": {"a": None}}))["data"] == {"b": "2"}
    stale = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "1"},
        {"op": "replace", "path": "/data/b", "value": "4"},
    ]
    with pytest.raises(KubeError):
        await kube.patch(CONFIG_MAP, namespace, "c", stale)
    with pytest.raises(Missing):
        await kube.patch(CONFIG_MAP, namespace, "none", {"data": {}})


async def what_is_as_wanted_is_not_written(kube: Kube, namespace: str) -> None:
    uid = await owner(kube, namespace)
    wanted = service(namespace, uid)
    first = await ensure(kube, wanted, None, uid)
    assert first.written
    live = await kube.get(SERVICE, namespace, "s")
    again = await ensure(kube, wanted, live, uid)
    assert not again.written
    behind = await ensure(kube, wanted, None, uid)  # a cache that does not know it yet
    assert not behind.written
    assert behind.body["metadata"]["resourceVersion"] == first.body["metadata"]["resourceVersion"]


async def what_is_no_longer_wanted_goes(kube: Kube, namespace: str) -> None:
    uid = await owner(kube, namespace)
    wanted = deployment(namespace, uid, minReadySeconds=5)
    await ensure(kube, wanted, None, uid)
    for _ in range(2):
        del wanted["spec"]["minReadySeconds"]
        live = await kube.get(DEPLOYMENT, namespace, "d")
        after = await ensure(kube, wanted, live, uid)
        assert after.written
        assert not after.body["spec"].get("minReadySeconds")
        assert same(marked(wanted), after.body)
        wanted["spec"]["minReadySeconds"] = 7
        after = await ensure(kube, wanted, after.body, uid)
        assert after.body["spec"]["minReadySeconds"] == 7


async def what_others_put_in_is_taken_out(kube: Kube, namespace: str) -> None:
    uid = await owner(kube, namespace)
    wanted = service(namespace, uid)
    made = await ensure(kube, wanted, None, uid)
    ports = [*made.body["spec"]["ports"], {"name": "extra", "port": 80, "protocol": "TCP"}]
    change = {"spec": {"ports": ports, "selector": {"more": "x"}, "publishNotReadyAddresses": True}}
    live = await kube.patch(SERVICE, namespace, "s", change, manager="somebody")
    after = await ensure(kube, wanted, live, uid)
    assert [port["name"] for port in after.body["spec"]["ports"]] == ["grpc"]
    assert after.body["spec"]["selector"] == {"a": "b"}
    assert after.body["spec"]["publishNotReadyAddresses"] is True, "never named by us"
    assert not (await ensure(kube, wanted, after.body, uid)).written


async def replicas_stay_when_they_are_let_go(kube: Kube, namespace: str) -> None:
    uid = await owner(kube, namespace)
    with_number = deployment(namespace, uid, replicas=5)
    await ensure(kube, with_number, None, uid)
    live = await kube.get(DEPLOYMENT, namespace, "d")
    without = deployment(namespace, uid)
    after = await ensure(kube, without, live, uid)
    assert after.body["spec"]["replicas"] == 5
    fresh = await kube.get(DEPLOYMENT, namespace, "d")
    assert fresh is not None
    assert fresh["spec"]["replicas"] == 5


async def a_strangers_object_is_left_alone(kube: Kube, namespace: str) -> None:
    uid = await owner(kube, namespace)
    theirs = await kube.create(SERVICE, namespace, service(namespace, "00000000-0000-0000-0000-000000000000"))
    for live in (None, theirs):
        with pytest.raises(NotOwned):
            await ensure(kube, service(namespace, uid), live, uid)
    found = await kube.get(SERVICE, namespace, "s")
    assert found is not None
    assert found["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]


async def an_object_that_was_made_anew_is_not_taken_for_the_old_one(kube: Kube, namespace: str) -> None:
    uid = await owner(kube, namespace)
    old = (await ensure(kube, service(namespace, uid), None, uid)).body
    await remove(kube, old)
    new = (await ensure(kube, service(namespace, uid), None, uid)).body
    # The cache still has the old one: what is there now is looked at before anything is written.
    after = await ensure(kube, service(namespace, uid, selector={"c": "d"}), old, uid)
    assert after.body["metadata"]["uid"] == new["metadata"]["uid"]
    with pytest.raises(Conflict):
        await remove(kube, old)
    found = await kube.get(SERVICE, namespace, "s")
    assert found is not None
    assert found["metadata"]["uid"] == new["metadata"]["uid"]


async def kinds_are_known_or_not(kube: Kube, namespace: str) -> None:
    assert await kube.serves(DEPLOYMENT)
    assert await kube.serves(CONFIG_MAP)
    assert not await kube.serves(Kind("stillhouse.example/v1", "Nothing", "nothings"))
    assert not await kube.serves(Kind("apps/v1", "Nothing", "nothings")), "a version that is known, a kind that is not"


async def a_look_brings_nothing_but_metadata(kube: Kube, namespace: str) -> None:
    metadata = {"name": "c", "namespace": namespace, "labels": {"a": "b"}}
    await kube.create(SECRET, namespace, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"a": "MQ=="}})
    found = await kube.look(SECRET, namespace, "c")
    assert found is not None
    assert found.keys() == {"apiVersion", "kind", "metadata"}
    assert found["metadata"]["labels"] == {"a": "b"}
    assert await kube.look(SECRET, namespace, "none") is None


CASES: tuple[Case, ...] = (
    kinds_are_known_or_not,
    a_look_brings_nothing_but_metadata,
    an_object_is_created_once,
    lists_are_chosen_by_labels,
    an_apply_needs_the_uid_of_what_is_there,
    a_delete_takes_the_object_of_that_uid_alone,
    a_patch_of_an_older_version_is_refused,
    what_is_as_wanted_is_not_written,
    what_is_no_longer_wanted_goes,
    what_others_put_in_is_taken_out,
    replicas_stay_when_they_are_let_go,
    a_strangers_object_is_left_alone,
    an_object_that_was_made_anew_is_not_taken_for_the_old_one,
)
