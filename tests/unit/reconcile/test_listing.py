"""The list of everything: a kind that is none of Kubernetes' own and cannot be listed must not stop the rest."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stillhouse.clients.kube.fake import FakeKube
from stillhouse.clients.kube.interface import Body, Forbidden, refusal
from stillhouse.clients.kube.kinds import MODEL, MONITOR, SCALED_OBJECT, Kind
from stillhouse.reconcile.controller import Controller
from stillhouse.reconcile.metrics import Metrics
from stillhouse.resources.wanted import ClusterSettings


class Closed(FakeKube):
    """A server that knows every kind and refuses lists of one."""

    def __init__(self, closed: Kind | None) -> None:
        super().__init__()
        self.closed = closed

    async def serves(self, kind: Kind) -> bool:
        return True

    async def find(self, kind: Kind, namespace: str = "", labels: str = "") -> list[Body]:
        if kind is self.closed:
            raise refusal(403, "Forbidden", "may not list", kind.name)
        found: list[Body] = await super().find(kind, namespace, labels)
        return found


def controller(kube: Any) -> Controller:
    return Controller(kube, ClusterSettings(), Metrics())


def test_an_optional_kind_that_cannot_be_listed_is_done_without_until_it_can(caplog: pytest.LogCaptureFixture) -> None:
    kube = Closed(SCALED_OBJECT)
    one = controller(kube)
    asyncio.run(one.list_all())
    assert SCALED_OBJECT not in one.kinds
    assert MONITOR in one.kinds
    assert "ScaledObject cannot be listed" in caplog.text
    assert not one.grown.is_set()
    kube.closed = None
    asyncio.run(one.list_all())
    assert one.grown.is_set()


def test_of_our_own_kinds_none_can_be_done_without() -> None:
    with pytest.raises(Forbidden):
        asyncio.run(controller(Closed(MODEL)).list_all())
