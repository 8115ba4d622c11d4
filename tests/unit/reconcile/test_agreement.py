"""What gateways say of their agreement: how it is put together, when it is told, and when not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.cluster import DIGEST, NAMESPACE, model
from tests.support.fronted import CASCADE, GATEWAY, WITH_CASCADE, Fronted, built

from stillhouse.api.status import REASONS, Status
from stillhouse.clients.agreement import Told
from stillhouse.clients.kube.kinds import EVENT
from stillhouse.reconcile.agreement import LOOKS, Watching, merge
from stillhouse.resources import labels

OK = Told({"AgreementLow": "ok", "ConfidenceDrift": "ok"})
LITTLE = Told({"AgreementLow": "tooLittle", "ConfidenceDrift": "ok"})
LOW = Told({"AgreementLow": "outside", "ConfidenceDrift": "ok"}, {"AgreementLow": "91.0 % of all answers"})
LOWER = Told({"AgreementLow": "outside", "ConfidenceDrift": "ok"}, {"AgreementLow": "90.9 % of all answers"})
BOTH = Told({"AgreementLow": "outside", "ConfidenceDrift": "outside"}, {"AgreementLow": "91.0 % of all answers"})


@pytest.mark.parametrize(
    ("told", "status", "reason", "message"),
    [
        ([], "Unknown", "AgreementUnknown", "no gateway is ready"),
        ([None, None], "Unknown", "AgreementUnknown", "no gateway that is ready tells"),
        ([OK, None], "True", "WithinBounds", ""),
        ([OK, LITTLE], "True", "WithinBounds", ""),
        ([LITTLE, LITTLE], "Unknown", "TooFewSamples", "too little traffic in six hours to say"),
        ([OK, LOW, LITTLE], "False", "AgreementLow", "AgreementLow: 91.0 % of all answers"),
        (
            [OK, LOW, BOTH],
            "False",
            "AgreementLow",
            "AgreementLow, ConfidenceDrift: 91.0 % of all answers; 2 gateways say so",
        ),
    ],
)
def test_verdicts_are_put_together(told: list[Told | None], status: str, reason: str, message: str) -> None:
    found = merge(told)
    assert (found.status, found.reason, found.message) == (status, reason, message)
    assert reason in REASONS


class Watched(Fronted):
    """A cascade with a gateway of two pods, and what they say; `None` is not there, a pod that is silent says nothing."""

    def begin(self) -> None:
        edge = {**WITH_CASCADE, "agreement": {"sample": "5%"}}
        body = model(edge=edge, index={"data": {"uri": "data:gate"}}, serve={"batching": {"maxBatchSize": 1}})
        revision = built(self, body, DIGEST, CASCADE)
        self.start()
        for number in (1, 2):
            pod = self.pod(f"{GATEWAY}-{number}", "gateway", **{labels.REVISION: revision})
            self.kube.set(pod, **pod["status"], podIP=f"10.0.0.{number}")
        self.settle()
        self.says: dict[str, Told] = {}
        self.asked: list[str] = []
        self.follow()

    def follow(self) -> None:
        self.changed: list[Any] = []
        self.watching = Watching(self.cache, self.changed.append, self._ask)

    async def _ask(self, address: str) -> Told | None:
        self.asked.append(address)
        return self.says.get(address)

    def round(self, *says: Told) -> tuple[str, str, str]:
        """Ask, do what follows, and return the condition."""
        self.says = {f"10.0.0.{number}": each for number, each in enumerate(says, 1)}
        self.asked = []
        self.run(self.watching.round())
        while self.changed:
            self.changed.pop()
            self.settle()
        (found,) = (each for each in self.status()["conditions"] if each["type"] == "AgreementHolds")
        return found["status"], found["reason"], found["message"]

    def events(self) -> list[tuple[str, str]]:
        bodies = [self.get("Event", name) or {} for name in self.kube.names(EVENT)]
        return sorted((each["type"], each["reason"]) for each in bodies if each["action"].startswith("AgreementHolds"))

    def restart(self) -> None:
        """Let another operator go on, which knows what is in the cluster and no more."""
        self.cache.keep_agreed(set())
        self.follow()


@pytest.fixture
def watched() -> Watched:
    found = Watched()
    found.begin()
    return found


def test_an_alarm_is_told_at_once_and_ends_after_some_looks(watched: Watched) -> None:
    (first,) = (each for each in watched.status()["conditions"] if each["type"] == "AgreementHolds")
    assert (first["status"], first["reason"]) == ("Unknown", "AgreementUnknown")
    assert watched.round(OK, OK)[:2] == ("True", "WithinBounds"), "nothing was known, so this is told at once"
    assert watched.asked == ["10.0.0.1", "10.0.0.2"]
    assert watched.events() == []
    assert watched.round(OK, LOW) == ("False", "AgreementLow", "AgreementLow: 91.0 % of all answers")
    assert watched.events() == [("Warning", "AgreementLow")]
    for _ in range(LOOKS - 1):
        assert watched.round(OK, OK)[:2] == ("False", "AgreementLow")
    assert watched.round(OK, OK)[:2] == ("True", "WithinBounds")
    assert watched.events() == [("Normal", "WithinBounds"), ("Warning", "AgreementLow")]
    Status.model_validate(watched.status())


def test_what_hovers_writes_nothing(watched: Watched) -> None:
    watched.round(LOW, OK)
    before = list(watched.kube.writes)
    for _ in range(4):
        watched.round(LOWER, OK)  # other figures
        watched.round(OK, OK)  # calm for two looks
        watched.round(OK, OK)
        watched.round(OK, LOW)
    watched.restart()
    watched.round(LOWER, OK)
    watched.reconcile()
    assert watched.kube.writes == before
    watched.round(BOTH, OK)
    assert watched.kube.writes != before, "another question that is outside is news"


def test_traffic_about_the_least_that_is_needed_does_not_flap(watched: Watched) -> None:
    watched.round(OK, OK)
    before = list(watched.kube.writes)
    for _ in range(5):
        watched.round(LITTLE, LITTLE)
        watched.round(LITTLE, LITTLE)
        watched.round(OK, LITTLE)
    assert watched.kube.writes == before
    for _ in range(LOOKS):
        found = watched.round()
    assert found[:2] == ("Unknown", "AgreementUnknown"), "nobody answered three times"


def test_only_gateways_that_are_ready_are_asked(watched: Watched) -> None:
    live = watched.get("Pod", f"{GATEWAY}-2") or {}
    watched.kube.set(live, phase="Running", podIP="10.0.0.2", conditions=[{"type": "Ready", "status": "False"}])
    watched.pod("m-main-1", "serve")
    watched.round(OK, LOW)
    assert watched.asked == ["10.0.0.1"]
    assert watched.condition("AgreementHolds") == ("True", "WithinBounds")


def test_without_a_watch_nobody_is_asked_and_nothing_is_said(watched: Watched) -> None:
    watched.round(LOW, OK)
    body = watched.get("DistilledModel", "m") or {}
    del body["spec"]["edge"]["agreement"]
    watched.kube.set(body)
    watched.settle()
    assert watched.condition("AgreementHolds") == ("", "")
    watched.asked = []
    watched.run(watched.watching.round())
    assert watched.asked == []
    assert watched.cache.observe((NAMESPACE, "m")).agreement is None  # type: ignore[union-attr]
