"""How many builds go on at once, while many models are worked on at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.cluster import NAMESPACE, SOURCES, Cluster, model, record

from stillhouse.clients.kube.fake import FakeKube
from stillhouse.clients.kube.interface import KubeError, refusal
from stillhouse.clients.kube.kinds import JOB, MODEL, REVISION
from stillhouse.reconcile.admission import UNSURE_S, Admission
from stillhouse.reconcile.observed import ended
from stillhouse.reconcile.reconciler import Reconciler
from stillhouse.resources import labels
from stillhouse.resources.wanted import ClusterSettings

MOST = 3
NAMES = [f"m{number:02}" for number in range(20)]


class Slow:
    """`Kube` whose answers take their time: others go on meanwhile. `fault` raises what a server would."""

    def __init__(self, inner: FakeKube) -> None:
        self.inner = inner
        self.fault: Callable[[str, tuple[Any, ...]], None] = lambda verb, arguments: None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        async def slow(*arguments: Any, **options: Any) -> Any:
            await asyncio.sleep(0)
            self.fault(name, arguments)
            done = await method(*arguments, **options)
            await asyncio.sleep(0)
            return done

        return slow


class Many(Cluster):
    """Models that are worked on at once. `seen` is the most builds that went on at any moment."""

    seen: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.slow = Slow(self.kube)
        self.reconciler = Reconciler(self.slow, self.cache, self.settings, clock=self._clock)  # type: ignore[arg-type]
        self.kube.watchers.append(self._look)

    def _look(self, event: str, body: dict[str, Any]) -> None:
        self.seen = max(self.seen, len(self.builds()))

    def jobs(self) -> list[dict[str, Any]]:
        return [body for (kind, _, _), body in self.kube._objects.items() if kind == "Job"]

    def builds(self) -> set[str]:
        """Return the models that have a Job, whether it runs or has ended: their build is not recorded yet."""
        return {body["metadata"]["labels"][labels.MODEL] for body in self.jobs()}

    def all_at_once(self) -> None:
        async def work() -> None:
            found = await asyncio.gather(*(self._attempt(name) for name in NAMES))
            assert len(found) == len(NAMES)

        self.run(work())

    async def _attempt(self, name: str) -> None:
        try:
            await self.reconciler.reconcile((NAMESPACE, name))
        except KubeError:
            return

    def end_one(self, chance: random.Random) -> None:
        """End one of the Jobs that run, as a stage that another follows, or as the last."""
        running = sorted(body["metadata"]["name"] for body in self.jobs() if not ended(body))
        name = chance.choice(running).partition("-")[0]
        (stage,) = [
            body["metadata"]["labels"][labels.STAGE]
            for body in self.jobs()
            if not ended(body) and body["metadata"]["labels"][labels.MODEL] == name
        ]
        following = {"resolve": "train", "train": "gate", "gate": None}[stage]
        self.end(stage, {"next": following, **({} if following else {"record": record()})}, name=name)


@pytest.fixture
def many() -> Many:
    found = Many(settings=ClusterSettings(sources=SOURCES, max_concurrent_builds=MOST))
    for name in NAMES:
        found.apply(model(name))
    return found


def test_of_many_models_at_once_no_more_build_than_may(many: Many) -> None:
    many.all_at_once()
    assert len(many.builds()) == MOST
    many.all_at_once()
    assert len(many.builds()) == many.seen == MOST


@pytest.mark.parametrize("seed", range(3))
def test_a_build_keeps_its_place_from_its_first_job_to_its_record(many: Many, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(4 * len(NAMES)):
        many.all_at_once()
        assert len(many.builds()) <= MOST
        if len(many.kube.names(REVISION)) == len(NAMES):
            break
        assert many.builds(), "somebody may always build"
        many.end_one(chance)
    assert len(many.kube.names(REVISION)) == len(NAMES)
    assert many.seen == MOST


def test_between_two_stages_nobody_else_begins(many: Many) -> None:
    many.all_at_once()
    first = sorted(many.builds())
    many.end("resolve", {"next": "train"}, name=first[0])
    others = [name for name in NAMES if name not in first]
    for name in others:  # who built has not been looked at again
        many.reconcile(name)
    assert sorted(many.builds()) == first


@pytest.mark.parametrize("code", [403, 422])
def test_a_place_is_given_back_where_the_job_cannot_be_made(many: Many, code: int) -> None:
    refused = set(NAMES[:5])

    def refuse(verb: str, arguments: tuple[Any, ...]) -> None:
        if verb == "create" and arguments[0] is JOB and arguments[2]["metadata"]["labels"][labels.MODEL] in refused:
            raise refusal(code, "Forbidden", "exceeded quota", "POST")

    many.slow.fault = refuse
    many.all_at_once()
    assert not many.builds(), "the oldest are asked for first"
    for name in NAMES:
        many.run(many._attempt(name))
    assert len(many.builds()) == MOST
    assert not many.builds() & refused


def test_a_job_whose_answer_was_lost_has_its_place(many: Many) -> None:
    """It is there, and no watch has told of it yet."""
    many.follows = False
    lost = [NAMES[0]]
    plain = many.kube.create

    async def create(kind: Any, namespace: str, body: dict[str, Any], **options: Any) -> Any:
        made = await plain(kind, namespace, body, **options)
        if kind is JOB and body["metadata"]["labels"][labels.MODEL] in lost:
            lost.clear()
            raise refusal(503, "", "the answer was lost", "POST")
        return made

    many.kube.create = create  # type: ignore[method-assign]
    many.all_at_once()
    assert not lost
    for name in NAMES[1:]:
        many.run(many._attempt(name))
    assert len(many.builds()) == MOST


def test_a_place_that_nobody_claims_is_free_again_by_and_by() -> None:
    moment = 0.0
    admission = Admission(1, lambda: moment)
    assert admission.ask(("n", "a"), "1", set()) == 0
    admission.unsure(("n", "a"))
    admission.done(("n", "a"))
    assert admission.ask(("n", "b"), "2", set()) == 1
    moment += UNSURE_S + 1
    assert admission.ask(("n", "b"), "2", set()) == 0


def test_who_is_older_is_before_and_who_is_gone_is_not() -> None:
    admission, full = Admission(1), {("n", "builds")}
    assert admission.ask(("n", "c"), "3", full) == 1
    assert admission.ask(("n", "a"), "1", full) == 1
    assert admission.ask(("n", "b"), "2", full) == 2
    assert admission.ask(("n", "c"), "3", full) == 3
    admission.forget(("n", "b"))
    assert admission.ask(("n", "c"), "3", full) == 2
    assert admission.ask(("n", "a"), "4", full) == 2, "deleted and made anew, it is the youngest"
    assert admission.ask(("n", "c"), "3", set()) == 0


def test_a_model_that_is_deleted_leaves_its_place(many: Many) -> None:
    many.all_at_once()
    gone = sorted(many.builds())[0]
    live = many.get("DistilledModel", gone)
    assert live is not None
    many.run(many.kube.delete(MODEL, NAMESPACE, gone, live["metadata"]["uid"]))
    many.all_at_once()
    assert len(many.builds()) == MOST
    assert gone not in many.builds()
