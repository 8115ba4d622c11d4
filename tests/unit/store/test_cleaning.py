"""What a build frees in a cluster's store: what the namespace has not needed for a day, and never more."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.stores import key, put, receipt_of

from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.worker.cleaning import GRACE_S, clean
from stillhouse.entrypoints.worker.given import Needed
from stillhouse.entrypoints.worker.pinned import Pinned

DAY = GRACE_S


class Shop:
    """A store of models m and n: a step of each one's plan, a revision that is on record, and things that nobody names."""

    def __init__(self, root: Path) -> None:
        self.store = LocalStore(root / "store")
        self.notes: list[str] = []
        self.now = 1e9
        self.digests = {}
        for step in ("m-step", "n-step", "former", "loose"):
            self.digests[step] = put(self.store, {"f": step.encode()})
            self.store.finish(receipt_of(step, self.digests[step]))
        self.digests["recorded"] = put(self.store, {"f": b"recorded"})
        self.digests["orphan"] = put(self.store, {"f": b"orphan"})
        for name in ("m", "n"):
            self.store.write_state(name, {"steps": [{"key": key(f"{name}-step")}]})
        (self.store.scratch(key("half")) / "part").write_bytes(b"x")

    def clean(self, models: str = "mn", digests: tuple[str, ...] = ("recorded",), namespace: str = "team") -> None:
        needed = Needed(namespace, frozenset(models), frozenset(self.digests[each][:23] for each in digests))
        clean(self.store, needed, self.notes.append, clock=lambda: self.now)

    @property
    def there(self) -> set[str]:
        found = set(self.store.objects.digests())
        return {name for name, digest in self.digests.items() if digest in found}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_what_nobody_needs_goes_after_a_day_and_not_before(shop: Shop) -> None:
    everything = shop.there
    shop.clean()
    shop.now += DAY - 1
    shop.clean()
    assert shop.there == everything
    assert (shop.store.root / "work" / key("half")).is_dir()
    shop.now += 1
    shop.clean()
    assert shop.there == {"m-step", "n-step", "recorded"}
    assert sorted(shop.store.receipt_keys()) == sorted([key("m-step"), key("n-step")])
    assert not (shop.store.root / "work" / key("half")).exists()
    assert "3 artifacts" in shop.notes[-1]


def test_downloads_of_models_that_are_gone_go_too(shop: Shop) -> None:
    for name in ("m", "n", "never-built"):
        cache = Pinned(shop.store.root, name, "f" * 64).fetched
        cache.mkdir(parents=True)
        (cache / "half.part").write_bytes(b"x")
    there = shop.store.root / "sources"
    shop.clean(models="m")
    shop.now += DAY - 1
    shop.clean(models="m")
    assert {each.name for each in there.iterdir()} == {"m", "n", "never-built"}
    shop.now += 1
    shop.clean(models="m")
    assert {each.name for each in there.iterdir()} == {"m"}
    assert (there / "m" / ("f" * 64) / "cache" / "half.part").exists()


def test_what_is_needed_again_meanwhile_has_its_day_anew(shop: Shop) -> None:
    shop.clean()
    shop.now += DAY / 2
    shop.clean(digests=("recorded", "orphan"))
    shop.now += DAY / 2
    shop.clean()
    assert "orphan" in shop.there
    shop.now += DAY
    shop.clean()
    assert "orphan" not in shop.there


def test_what_came_lately_stays_however_old_the_rest_is(shop: Shop) -> None:
    shop.clean()
    shop.now += DAY
    shop.digests["new"] = put(shop.store, {"f": b"new"})
    shop.clean()
    assert "new" in shop.there


def test_a_model_that_is_gone_is_forgotten_with_its_steps(shop: Shop) -> None:
    for _ in range(2):
        shop.clean(models="m")
        assert shop.store.model_names() in (["m", "n"], ["m"])
        shop.now += DAY
    assert shop.store.model_names() == ["m"]
    assert "n-step" not in shop.there
    assert "m-step" in shop.there


def test_a_revision_on_record_keeps_the_steps_that_made_it(shop: Shop) -> None:
    revision = {"digest": shop.digests["recorded"], "index": None, "steps": [{"key": key("former")}]}
    shop.store.write_state("m", {"steps": [{"key": key("m-step")}], "history": [revision]})
    shop.clean()
    shop.now += DAY
    shop.clean()
    assert "former" in shop.there
    shop.clean(digests=("m-step",))
    shop.now += DAY
    shop.clean(digests=("m-step",))
    assert not {"former", "recorded"} & shop.there


def test_a_store_that_namespaces_share_is_left_alone(shop: Shop) -> None:
    everything = shop.there
    shop.clean(namespace="other")
    for _ in range(2):
        shop.clean()
        shop.now += DAY
    assert shop.there == everything
    assert "shared by several namespaces" in shop.notes[-1]


def test_while_somebody_builds_nothing_goes_and_nothing_is_said(shop: Shop) -> None:
    shop.clean()
    shop.now += DAY
    everything = shop.there
    with shop.store.using():
        shop.clean()
    assert shop.there == everything
    assert shop.notes == []


def test_a_store_that_cannot_be_read_stops_no_build(shop: Shop) -> None:
    (shop.store.root / "models" / "m" / "state.json").write_text("half a rec")
    everything = shop.there
    shop.clean()
    shop.now += DAY
    shop.clean()
    assert shop.there == everything
    assert "nothing is freed" in shop.notes[-1]


@pytest.mark.parametrize("content", ["", "[1]", '{"a": "b"}', "half"])
def test_marks_that_are_damaged_begin_anew(shop: Shop, content: str) -> None:
    shop.clean()
    shop.now += DAY
    (shop.store.root / "unneeded.json").write_text(content)
    everything = shop.there
    shop.clean()
    assert shop.there == everything


def test_a_clock_that_goes_back_frees_nothing(shop: Shop) -> None:
    shop.clean()
    everything = shop.there
    shop.now -= 100 * DAY
    shop.clean()
    assert shop.there == everything
