"""The cache: the newest body of each object, and whose work it is."""

from __future__ import annotations

from typing import Any

from tests.support.cluster import NAMESPACE, model

from stillhouse.reconcile.cache import Cache
from stillhouse.reconcile.needed import needed
from stillhouse.resources import labels

KEY = (NAMESPACE, "m")


def body(kind: str, name: str, version: int, *, uid: str = "u", **parts: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": NAMESPACE, "uid": uid, "resourceVersion": str(version), "labels": {labels.MODEL: "m"}}
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, **parts}


def known(cache: Cache) -> Any:
    observed = cache.observe(KEY)
    assert observed is not None
    return observed


def cache_with_model() -> Cache:
    cache = Cache()
    whole = model()
    whole["metadata"] |= {"uid": "owner", "resourceVersion": "1"}
    assert list(cache.put(whole)) == [KEY]
    return cache


def test_an_older_body_does_not_replace_a_newer_one() -> None:
    cache = cache_with_model()
    cache.put(body("Service", "s", 5, spec={"new": True}))
    assert not cache.put(body("Service", "s", 4, spec={"new": False}))
    assert known(cache).children["Service", "s"]["spec"] == {"new": True}


def test_another_object_of_the_same_name_does() -> None:
    cache = cache_with_model()
    cache.put(body("Service", "s", 5, uid="one"))
    cache.put(body("Service", "s", 4, uid="two"))
    cache.drop(body("Service", "s", 6, uid="one"))
    assert known(cache).children["Service", "s"]["metadata"]["uid"] == "two"


def test_an_echo_is_nobodys_work() -> None:
    cache = cache_with_model()
    first = body("Deployment", "d", 5, spec={"a": 1})
    assert list(cache.put(first)) == [KEY]
    assert not cache.put(first)
    assert not cache.put(body("Deployment", "d", 6, spec={"a": 1}))
    assert list(cache.put(body("Deployment", "d", 7, spec={"a": 1}, status={"replicas": 1}))) == [KEY]
    assert list(cache.put(body("Deployment", "d", 8, spec={"a": 2}, status={"replicas": 1}))) == [KEY]


def test_an_autoscalers_status_is_nobodys_work() -> None:
    cache = cache_with_model()
    cache.put(body("HorizontalPodAutoscaler", "h", 5, spec={}))
    assert not cache.put(body("HorizontalPodAutoscaler", "h", 6, spec={}, status={"currentReplicas": 2}))
    assert list(cache.put(body("HorizontalPodAutoscaler", "h", 7, spec={"maxReplicas": 3}))) == [KEY]


def test_what_has_no_spec_is_looked_at_whole() -> None:
    cache = cache_with_model()
    cache.put(body("ServiceAccount", "a", 5, automountServiceAccountToken=False))
    assert not cache.put(body("ServiceAccount", "a", 6, automountServiceAccountToken=False))
    assert list(cache.put(body("ServiceAccount", "a", 7, automountServiceAccountToken=True))) == [KEY]


def test_a_list_mends_what_a_watch_has_missed() -> None:
    cache = cache_with_model()
    cache.put(body("Service", "gone", 5))
    cache.put(body("Service", "same", 6))
    cache.put(body("Service", "old", 7, spec={"a": 1}))
    listed = [body("Service", "same", 6), body("Service", "old", 9, spec={"a": 2}), body("Service", "new", 10)]
    assert cache.replace("Service", listed, cache.versions("Service")) == {KEY}
    assert {name for _, name in known(cache).children} == {"same", "old", "new"}
    assert known(cache).children["Service", "old"]["spec"] == {"a": 2}
    assert cache.replace("Service", listed, cache.versions("Service")) == set()


def test_what_came_while_a_list_was_under_way_stays() -> None:
    cache = cache_with_model()
    cache.put(body("Service", "newer", 5))
    before = cache.versions("Service")
    cache.put(body("Service", "newer", 8, spec={"a": 2}))
    cache.put(body("Service", "new", 9))
    assert cache.replace("Service", [], before) == set()
    assert {name for _, name in known(cache).children} == {"newer", "new"}


def test_what_fills_memory_and_is_not_read_is_left_out() -> None:
    cache = cache_with_model()
    whole = body("Service", "s", 5)
    whole["metadata"]["managedFields"] = [{"manager": "x"}]
    cache.put(whole)
    assert "managedFields" not in known(cache).children["Service", "s"]["metadata"]


def test_objects_without_our_label_belong_to_nobody() -> None:
    cache = Cache()
    stranger = body("Service", "s", 5)
    stranger["metadata"]["labels"] = {}
    assert not cache.put(stranger)
    assert not cache.drop(stranger)
    assert cache.observe(KEY) is None


def test_bindings_concern_every_model_of_their_namespace_and_no_other() -> None:
    cache = cache_with_model()
    binding = body("ConfigMap", "stillhouse-sources", 5, data={"models.minilm": "pvc://c/m"})
    assert list(cache.put(binding)) == [KEY]
    assert known(cache).sources == {"models:minilm": "pvc://c/m"}
    assert not list(cache.put(body("ConfigMap", "another", 5, data={"models.x": "y"})))
    binding["metadata"]["namespace"] = "other"
    assert list(cache.put(binding)) == []
    binding["metadata"]["namespace"] = NAMESPACE
    assert list(cache.drop(binding)) == [KEY]
    assert known(cache).sources == {}


def bindings(version: int, **data: str) -> dict[str, Any]:
    return body("ConfigMap", "stillhouse-sources", version, uid="bindings", data=data)


def test_an_older_binding_does_not_replace_a_newer_one() -> None:
    cache = cache_with_model()
    cache.put(bindings(7, **{"models.minilm": "pvc://c/new"}))
    assert not list(cache.replace("ConfigMap", [bindings(5, **{"models.minilm": "pvc://c/old"})], {}))
    assert known(cache).sources == {"models:minilm": "pvc://c/new"}


def test_a_list_finds_bindings_that_went_and_that_changed_and_nothing_else() -> None:
    cache = cache_with_model()
    first = bindings(5, **{"models.minilm": "pvc://c/m"})
    cache.put(first)
    assert cache.replace("ConfigMap", [first], cache.versions("ConfigMap")) == set(), "that is no news"
    other = bindings(6, **{"models.minilm": "pvc://c/n"})
    assert cache.replace("ConfigMap", [other], cache.versions("ConfigMap")) == {KEY}
    assert known(cache).sources == {"models:minilm": "pvc://c/n"}
    assert cache.replace("ConfigMap", [], cache.versions("ConfigMap")) == {KEY}
    assert known(cache).sources == {}


def test_bindings_that_a_watch_told_while_a_list_was_under_way_stay() -> None:
    cache = cache_with_model()
    before = cache.versions("ConfigMap")
    cache.put(bindings(5, **{"models.minilm": "pvc://c/m"}))
    assert cache.replace("ConfigMap", [], before) == set()
    assert known(cache).sources == {"models:minilm": "pvc://c/m"}


def test_bindings_whose_metadata_alone_changed_are_nobodys_work() -> None:
    cache = cache_with_model()
    cache.put(bindings(5, **{"models.minilm": "pvc://c/m"}))
    assert not list(cache.put(bindings(6, **{"models.minilm": "pvc://c/m"})))
    assert list(cache.models()) == [KEY], "and they are no model"


def test_bindings_that_went_late_make_no_ghost() -> None:
    cache = cache_with_model()
    gone = bindings(5, **{"models.minilm": "pvc://c/m"})
    cache.put(gone)
    assert list(cache.drop(bindings(9))) == [KEY]
    assert not list(cache.put(gone))
    assert known(cache).sources == {}


def test_the_echo_of_our_own_write_is_known_once() -> None:
    cache = cache_with_model()
    cache.wrote(body("Service", "s", 5, spec={"a": 1}))
    assert known(cache).children["Service", "s"]["spec"] == {"a": 1}
    assert not cache.is_echo("deployments", 5)
    assert not cache.is_echo("services", 6)
    assert cache.is_echo("services", 5)
    assert not cache.is_echo("services", 5)


def test_an_answer_that_the_news_of_the_end_overtook_makes_no_ghost() -> None:
    cache = cache_with_model()
    cache.put(body("Service", "s", 5, uid="one"))
    cache.drop(body("Service", "s", 9, uid="one"))
    cache.wrote(body("Service", "s", 7, uid="one"))
    assert ("Service", "s") not in known(cache).children
    cache.put(body("Service", "s", 10, uid="two"))
    assert known(cache).children["Service", "s"]["metadata"]["uid"] == "two"


def test_an_object_that_lost_our_label_and_has_it_again_is_known_again() -> None:
    cache = cache_with_model()
    cache.put(body("Service", "s", 5))
    cache.drop(body("Service", "s", 6))  # what a watch with a selector tells when the label goes
    assert ("Service", "s") not in known(cache).children
    assert list(cache.put(body("Service", "s", 7))) == [KEY]
    assert ("Service", "s") in known(cache).children


def test_what_a_namespace_needs_of_its_store() -> None:
    cache = cache_with_model()
    for number, name in enumerate(("one", "two")):
        spec = (
            {"digest": "sha256:" + str(number) * 64, "index": "sha256:" + "e" * 64} if name == "one" else {"reason": "GateFailed"}
        )
        cache.put(body("ModelRevision", name, 5, spec=spec))
    cache.put(body("ModelRevision", "three", 5, spec={"digest": "sha256:" + "f" * 64}))
    elsewhere = body("ModelRevision", "four", 5, spec={"digest": "sha256:" + "d" * 64})
    elsewhere["metadata"]["namespace"] = "another"
    cache.put(elsewhere)
    found = needed(cache, NAMESPACE)
    digests = ["sha256:" + each * 16 for each in ("0", "e", "f")]
    assert found == {"namespace": NAMESPACE, "models": ["m"], "digests": digests}


def test_a_namespace_that_needs_more_than_can_be_said_frees_nothing() -> None:
    cache = cache_with_model()
    for number in range(2000):
        cache.put(body("ModelRevision", f"r{number}", 5, spec={"digest": f"sha256:{number:04}{number:060}"}))
    assert needed(cache, NAMESPACE) is None


def test_who_opens_or_closes_a_circle_of_gateways_is_the_work_of_all_of_it() -> None:
    cache = Cache()

    def steps(name: str, asks: str, version: int, **more: str) -> dict[str, Any]:
        whole = model(edge={"preprocess": {"model": asks, **more}})
        whole["metadata"] |= {"name": name, "uid": name, "resourceVersion": str(version)}
        return whole

    assert list(cache.put(steps("a", "b", 1))) == [(NAMESPACE, "a")]
    assert list(cache.put(steps("b", "c", 1))) == [(NAMESPACE, "b")]
    assert set(cache.put(steps("c", "a", 1))) == {(NAMESPACE, each) for each in "abc"}
    observed = cache.observe((NAMESPACE, "b"))
    assert observed is not None and observed.circle == ("b", "c", "a", "b")
    assert set(cache.put(steps("b", "c", 2, address="grpcs://c:443"))) == {(NAMESPACE, each) for each in "abc"}
    assert list(cache.put(steps("c", "a", 2, encoding="zstd"))) == [(NAMESPACE, "c")], "what asks the same is its own work"
    assert set(cache.put(steps("b", "c", 3))) == {(NAMESPACE, each) for each in "abc"}
    assert set(cache.drop(steps("c", "a", 9))) == {(NAMESPACE, each) for each in "abc"}
    observed = cache.observe((NAMESPACE, "a"))
    assert observed is not None and not observed.circle
