"""The APIService and its certificate: taken where free, kept where ours, never another's; renewed before its end."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from stillhouse.clients.kube.fake import FakeKube
from stillhouse.clients.kube.interface import Conflict
from stillhouse.clients.kube.kinds import API_SERVICE, SECRET
from stillhouse.errors import EnvironmentProblem
from stillhouse.resources.metrics_api import APISERVICE
from stillhouse.scaling.certificates import SERVING_LIFE, Suite, renewed
from stillhouse.scaling.registration import Place, Registration, Standing, unregister

PLACE = Place("stillhouse", "stillhouse-metrics", "stillhouse-metrics")
START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = PLACE.names


class World:
    def __init__(self, *, secret: bool = True) -> None:
        self.kube, self.now = FakeKube(), START
        self.registration = Registration(self.kube, PLACE, lambda: self.now)
        if secret:
            body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": PLACE.secret, "namespace": PLACE.namespace}}
            self.do(self.kube.create(SECRET, PLACE.namespace, body))

    def do(self, work: Any) -> Any:
        return asyncio.run(work)

    def look(self) -> Standing:
        found: Standing = self.do(self.registration.look())
        return found

    def api(self) -> Any:
        return self.do(self.kube.get(API_SERVICE, "", APISERVICE))

    def bundle(self) -> bytes:
        return base64.b64decode(self.api()["spec"]["caBundle"])


def chain_holds(bundle: bytes, serving: bytes) -> bool:
    leaf = x509.load_pem_x509_certificate(serving)
    for authority in x509.load_pem_x509_certificates(bundle):
        try:
            leaf.verify_directly_issued_by(authority)
        except Exception:
            continue
        return True
    return False


def test_a_name_that_is_free_is_taken_and_then_nothing_is_written() -> None:
    world = World()
    standing = world.look()
    assert standing.owner == ""
    assert world.api()["spec"]["service"] == {"namespace": "stillhouse", "name": "stillhouse-metrics", "port": 443}
    assert chain_holds(world.bundle(), standing.serving.certificate)
    before = len(world.kube.writes)
    assert world.look() == standing
    assert len(world.kube.writes) == before


@pytest.mark.parametrize(
    ("labels", "service"),
    [
        ({"app.kubernetes.io/managed-by": "Helm"}, {"namespace": "keda", "name": "keda-operator-metrics-apiserver"}),
        ({}, {"namespace": "monitoring", "name": "prometheus-adapter"}),
        ({"app.kubernetes.io/managed-by": "stillhouse"}, {"namespace": "other", "name": "stillhouse-metrics"}),
        ({}, None),
    ],
)
def test_anothers_is_left_alone(labels: dict[str, str], service: dict[str, str] | None) -> None:
    world = World()
    theirs = {"metadata": {"name": APISERVICE, "labels": labels}, "spec": {"group": "x", "service": service}}
    before = world.do(world.kube.create(API_SERVICE, "", {"apiVersion": "x/v1", "kind": "APIService", **theirs}))
    standing = world.look()
    assert standing.owner
    assert standing.serving.certificate
    assert world.api() == before
    assert world.do(unregister(world.kube, PLACE, lambda: world.now)) is False
    assert world.api() == before
    world.do(world.kube.delete(API_SERVICE, "", APISERVICE, before["metadata"]["uid"]))
    world.now += timedelta(hours=1)
    assert world.look().owner == ""


def test_it_is_given_back_where_others_are_to_have_it() -> None:
    world = World()
    world.look()
    aside = Registration(world.kube, PLACE, lambda: world.now, register=False)
    assert world.do(aside.look()).owner
    assert world.kube.names(API_SERVICE) == []
    theirs = {"metadata": {"name": APISERVICE}, "spec": {"service": {"namespace": "keda", "name": "keda"}}}
    before = world.do(world.kube.create(API_SERVICE, "", theirs))
    assert world.do(aside.look()).serving.certificate
    assert world.api() == before


def test_what_was_changed_by_hand_is_put_right() -> None:
    world = World()
    world.look()
    live = world.api()
    world.kube.set({**live, "spec": {**live["spec"], "insecureSkipTLSVerify": False, "caBundle": "AAAA"}})
    world.look()
    assert b"BEGIN CERTIFICATE" in world.bundle()


def test_two_of_us_end_with_one_certificate() -> None:
    world = World()
    other = Registration(world.kube, PLACE, lambda: world.now)
    assert world.look().serving == world.do(other.look()).serving


def test_one_who_was_slower_looks_again() -> None:
    world = World()
    empty = world.do(world.kube.get(SECRET, PLACE.namespace, PLACE.secret))

    def interfere(verb: str, kind: Any, name: str) -> None:
        if verb == "patch" and kind is SECRET:
            world.kube.before = lambda *_: None
            world.kube.set({**empty, "data": {"of-another": ""}})

    world.kube.before = interfere
    with pytest.raises(Conflict):
        world.look()
    assert world.look().owner == ""


def test_who_leaves_is_not_registered_again_until_that_did_not_happen() -> None:
    world = World()
    world.look()
    assert world.do(unregister(world.kube, PLACE, lambda: world.now)) is True
    assert world.api() is None
    world.now += timedelta(minutes=5)
    assert world.look().owner == ""
    assert world.api() is None
    world.now += timedelta(minutes=6)
    world.look()
    assert world.api() is not None


def test_without_its_secret_it_says_so() -> None:
    with pytest.raises(EnvironmentProblem, match="Secret"):
        World(secret=False).look()


def test_a_certificate_is_renewed_when_a_third_of_its_life_is_left() -> None:
    world = World()
    first = world.look().serving
    world.now = START + SERVING_LIFE * 0.6
    assert world.look().serving == first
    bundle = world.bundle()
    world.now = START + SERVING_LIFE * 0.7
    second = world.look().serving
    assert second != first
    assert world.bundle() == bundle
    assert chain_holds(bundle, second.certificate)


def test_a_new_authority_is_trusted_beside_the_former() -> None:
    first = renewed(None, NAMES, START)
    then = START + timedelta(days=2500)
    second = renewed(first, NAMES, then)
    assert second.authority != first.authority
    assert chain_holds(second.bundle, first.serving.certificate)
    assert chain_holds(second.bundle, second.serving.certificate)
    assert len(x509.load_pem_x509_certificates(second.bundle)) == 2
    assert renewed(second, NAMES, then) is second


@pytest.mark.parametrize("spoilt", ["authority", "serving", "key", "names"])
def test_what_is_spoilt_is_made_anew(spoilt: str) -> None:
    good = renewed(None, NAMES, START)
    bad = {
        "authority": Suite(good.bundle, type(good.authority)(b"no PEM", good.authority.key), good.serving),
        "serving": Suite(good.bundle, good.authority, type(good.serving)(b"", b"")),
        "key": Suite(good.bundle, good.authority, type(good.serving)(good.serving.certificate, good.authority.key)),
        "names": renewed(None, ("another.svc",), START),
    }[spoilt]
    mended = renewed(bad, NAMES, START)
    assert mended is not bad
    assert chain_holds(mended.bundle, mended.serving.certificate)
    assert renewed(mended, NAMES, START) is mended
