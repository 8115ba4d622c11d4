"""What is damaged in a store is found, said and built again; what nobody needs is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.passes import Events, chain, draft, make_plan, make_runner
from tests.support.runs import damage, put_to_rest, run, text_of
from tests.support.stores import DAMAGE

from stillhouse.clients.store.local import LocalStore
from stillhouse.errors import StoreError


def test_a_damaged_object_at_rest_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = chain()
    first = run(tmp_path, plan)
    put_to_rest(tmp_path, monkeypatch)
    store = LocalStore(tmp_path)
    harmed = next(store.objects.packed.path(first["train/a"].artifact).glob("text*"))
    harmed.chmod(0o644)
    harmed.write_bytes(harmed.read_bytes()[:-1])
    events = Events()
    changed = make_plan(draft("train/a", "a"), draft("train/b", "B", ["train/a"]), targets=["train/b"])
    assert run(tmp_path, changed, events)["train/a"].artifact == first["train/a"].artifact
    assert ("started", "train/a", "1/2") in events.seen
    assert store.objects.check(first["train/a"].artifact, full=True) == ""


def test_a_damaged_result_is_said_and_built_again(tmp_path: Path) -> None:
    plan = chain()
    first = run(tmp_path, plan)
    damage(tmp_path, plan, "train/c")
    events = Events()
    assert {name: r.artifact for name, r in run(tmp_path, plan, events).items()} == {n: r.artifact for n, r in first.items()}
    assert events.ran == ["train/c"]
    assert len(events.notes) == 1
    assert "train/c" in events.notes[0]
    assert "text does not match its digest" in events.notes[0]
    assert LocalStore(tmp_path).objects.check(first["train/c"].artifact, full=True) == ""


@pytest.mark.parametrize(
    "kind", ["a link in the object's place", "a file in the object's place", "no manifest", "nothing at all"]
)
def test_every_damage_is_mended(tmp_path: Path, kind: str) -> None:
    plan = chain()
    first = run(tmp_path, plan)
    store = LocalStore(tmp_path)
    DAMAGE[kind](store.objects.path(first["train/c"].artifact))
    again = run(tmp_path, plan)
    assert again["train/c"].artifact == first["train/c"].artifact
    assert LocalStore(tmp_path).objects.check(first["train/c"].artifact, full=True) == ""


def test_damage_to_what_nobody_needs_any_more_is_left_alone(tmp_path: Path) -> None:
    plan = chain()
    run(tmp_path, plan)
    damage(tmp_path, plan, "train/b")
    events = Events()
    run(tmp_path, plan, events)
    assert events.ran == []


def test_a_damaged_parent_is_built_again_when_its_child_is(tmp_path: Path) -> None:
    plan = chain()
    run(tmp_path, plan)
    damage(tmp_path, plan, "train/b")
    LocalStore(tmp_path).forget(plan.step("train/c").key)
    events = Events()
    run(tmp_path, plan, events)
    assert events.ran == ["train/b", "train/c"]
    assert text_of(tmp_path, plan, "train/c") == "a0;a1;b0;b1;c0;c1;"


def test_a_result_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as gone:
        make_runner(tmp_path).artifact(chain().step("train/a"))
    assert gone.value.problem.field == "train/a"


def test_a_runner_mends_nothing_that_another_one_has_just_mended(tmp_path: Path) -> None:
    """Both see the damage; the second must find the first one's new result, not throw it away."""
    plan = chain()
    run(tmp_path, plan)
    damage(tmp_path, plan, "train/c")
    late = make_runner(tmp_path, events := Events())
    todo = late.todo(plan)
    assert [step.id for step in todo] == ["train/c"]

    first = Events()
    run(tmp_path, plan, first)
    assert first.ran == ["train/c"]
    assert late.run(plan)["train/c"].artifact
    assert events.ran == []
