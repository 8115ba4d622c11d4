"""The operator's process behind a proxy that makes what networks and servers do wrong: it ends as it would have without.

What is compared is all that is there at the end, but for uids, versions and times. A bounded part with fixed seeds runs
always; every fault at every write runs with the long samples.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from tests.support.cluster import SOURCES
from tests.support.fault_proxy import WATCH_FAULTS, WRITE_FAULTS, FaultProxy, WatchFaults, WriteFault, running_proxy
from tests.support.kube.control_plane import ControlPlane, running_control_plane
from tests.support.lives import STEPS, Lives
from tests.support.operator_process import Kept, install_crds, kept_operator, running_operator

SEED = 20261125
KILLS = tuple(kind for kind in WRITE_FAULTS if kind.startswith("kill"))
OTHERS = tuple(kind for kind in WRITE_FAULTS if kind not in KILLS)
RESYNC_S = 2.0


@dataclass
class Stage:
    """A control plane, the proxy before it, and the operator behind that; `end` is what a life without faults leaves."""

    api: client.ApiClient
    proxy: FaultProxy
    kept: Kept
    end: Mapping[str, Any]
    created: Mapping[tuple[str, str], int]
    writes: int


@pytest.fixture(scope="module")
def plane(binaries: dict[str, Path]) -> Iterator[ControlPlane]:
    """A control plane of its own: the operator sees the whole cluster, and other tests' models are none of its business."""
    with running_control_plane(binaries) as running:
        install_crds(running)
        yield running


@pytest.fixture(scope="module")
def stage(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The operator behind the proxy, kept alive; a life without faults has been lived."""
    words = [f"--resync-seconds={RESYNC_S}", "--silence-seconds=3"]
    folder = tmp_path_factory.mktemp("faults")
    with (
        running_proxy(plane) as proxy,
        plane.client() as api,
        kept_operator(folder, proxy.kubeconfig(), SOURCES, words) as kept,
    ):
        proxy.kill = kept.kill
        lives = Lives(api, 1)
        lives.live()
        settle(proxy, lives)
        (only,) = lives.namespaces
        yield Stage(api, proxy, kept, lives.ends()[only], made(proxy, only), proxy.writes[only])
        assert not [each for each in kept.operator.records() if each["level"] == "CRITICAL" or "a bug" in each["message"]]


def eventually(what: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def made(proxy: FaultProxy, namespace: str) -> Counter[tuple[str, str]]:
    """Return how often each Job and each record was made."""
    kinds = ("jobs", "modelrevisions")
    return Counter(
        {(plural, name): n for (space, plural, name), n in proxy.created.items() if space == namespace and plural in kinds}
    )


def settle(proxy: FaultProxy, lives: Lives) -> None:
    """Wait until three lists have found nothing to write; fail where it goes on for ever."""
    for _ in range(20):
        before = {namespace: proxy.writes[namespace] for namespace in lives.namespaces}
        time.sleep(3 * RESYNC_S)
        lives.until(lambda: not lives.waiting())
        if all(proxy.writes[namespace] == count for namespace, count in before.items()):
            return
    pytest.fail("it goes on writing")


def live_with(stage: Stage, faults: Sequence[WriteFault], watch: WatchFaults | None = None) -> None:
    """Live as many lives as there are faults, at once, and compare each end with the one of the life without."""
    lives = Lives(stage.api, len(faults))
    given = dict(zip(lives.namespaces, faults, strict=True))
    stage.proxy.faults.update(given)
    stage.proxy.watch = watch
    deaths = len(stage.kept.codes)
    try:
        lives.live()
        settle(stage.proxy, lives)
    finally:
        stage.proxy.watch = None
    ends = lives.ends()
    for namespace, fault in given.items():
        assert not list(difference(stage.end, ends[namespace])), fault
        assert made(stage.proxy, namespace) == stage.created, fault
        # Who died or waited skips a status and its events: such a life has a few writes less.
        assert namespace in stage.proxy.met or not 0 < fault.number < 0.85 * stage.writes, f"{fault}: not so many writes"
    assert set(stage.kept.codes[deaths:]) <= {-9}, "the operator ended by itself"
    kills = sum(fault.kind in KILLS for fault in faults)
    # Two that strike while it is on its way out are one death.
    assert min(kills, 1) <= len(stage.kept.codes) - deaths <= kills


def difference(wanted: Any, found: Any, where: str = "") -> Iterator[str]:
    """Yield each smallest place in which two ends differ."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name in sorted({*wanted, *found}):
            yield from difference(wanted.get(name), found.get(name), f"{where}.{name}")
    elif wanted != found:
        yield f"{where}: {found!r} and not {wanted!r}"


def numbers(stage: Stage, kind: str, count: int) -> list[WriteFault]:
    """Return a kind of fault at some of a life's writes, chosen by the seed."""
    chosen = random.Random(f"{SEED} {kind}").sample(range(1, stage.writes + 1), count)
    return [WriteFault(kind, number) for number in sorted(chosen)]


def test_the_life_itself(stage: Stage) -> None:
    assert len(STEPS) == 4
    assert stage.writes > 40
    assert len([name for name in stage.end if name.startswith("modelrevisions/")]) == 2
    assert not [name for name in stage.end if name.startswith("jobs/")]
    assert set(stage.created.values()) == {1}


def test_some_refusals_and_resets(stage: Stage) -> None:
    live_with(stage, [fault for kind in OTHERS for fault in numbers(stage, kind, 3)])


@pytest.mark.parametrize("kind", KILLS)
def test_some_deaths(kind: str, stage: Stage) -> None:
    live_with(stage, numbers(stage, kind, 3))


def test_watches_that_are_wrong_in_all_ways(stage: Stage) -> None:
    faults = WatchFaults(WATCH_FAULTS, chance=0.15, seed=SEED)
    for _ in range(3):
        live_with(stage, [WriteFault("", 0)] * 4, faults)
        if not set(WATCH_FAULTS) - faults.made.keys():
            break
    assert sum(faults.made.values()) > 20
    assert not set(WATCH_FAULTS) - faults.made.keys(), "the sample is too small"


def test_an_operator_whose_watches_end_for_good_ends_too_and_is_no_blind_leader(plane: ControlPlane, tmp_path: Path) -> None:
    """kopf gives up at what it cannot read, and cancels whatever else runs in the process: another process must go on."""
    with running_proxy(plane) as proxy, plane.client() as api:
        lives = Lives(api, 1)
        (namespace,) = lives.namespaces
        place = {"namespace": namespace, "lease_namespace": namespace, "sources": SOURCES}
        with running_operator(plane, tmp_path, **place, kubeconfig_text=proxy.kubeconfig()) as operator:
            proxy.watch = WatchFaults(("garble",), chance=1.0, seed=0)
            lives.apply(namespace, STEPS[0])
            assert operator.process.wait(60) == 1
            assert "have ended by themselves" in operator.log.read_text()


def test_a_watch_that_went_silent_is_begun_anew_though_no_list_would_find_it(plane: ControlPlane, tmp_path: Path) -> None:
    with running_proxy(plane) as proxy, plane.client() as api:
        lives = Lives(api, 1)
        (namespace,) = lives.namespaces
        place = {"namespace": namespace, "lease_namespace": namespace, "sources": SOURCES}
        words = ["--resync-seconds=100000", "--silence-seconds=3"]
        with running_operator(plane, tmp_path, **place, words=words, kubeconfig_text=proxy.kubeconfig()) as operator:
            lives.apply(namespace, STEPS[0])
            lives.until(lambda: not lives.waiting())
            time.sleep(2.0)  # what is told next is what is asked next
            proxy.watch = faults = WatchFaults(("silent",), chance=1.0, seed=0)
            lives.apply(namespace, STEPS[1])
            eventually(lambda: faults.made["silent"])  # who watches that kind is told nothing more
            proxy.watch = None
            lives.until(lambda: not lives.waiting())
            assert operator.process.poll() is None


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", OTHERS)
def test_a_refusal_or_a_reset_at_every_write(kind: str, stage: Stage) -> None:
    live_with(stage, [WriteFault(kind, number) for number in range(1, stage.writes + 1)])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KILLS)
def test_a_death_at_every_write(kind: str, stage: Stage) -> None:
    for first in range(1, stage.writes + 1, 8):
        live_with(stage, [WriteFault(kind, number) for number in range(first, min(first + 8, stage.writes + 1))])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("kind", WATCH_FAULTS)
def test_watches_that_are_wrong_in_one_way(kind: str, seed: int, stage: Stage) -> None:
    live_with(stage, [WriteFault("", 0)] * 8, WatchFaults((kind,), chance=0.3, seed=seed))
