"""The runner: what runs and in which order, what is cached, what runs again, what listeners hear, and two runners at once."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest
from tests.support.passes import Events, chain, draft, make_plan, make_runner
from tests.support.runs import ALL, damage, put_to_rest, run, text_of
from tests.support.stores import state_of

from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.receipts import Receipt
from stillhouse.errors import DataError
from stillhouse.planning.plan import Plan


def test_steps_that_share_a_result_are_counted_as_one(tmp_path: Path) -> None:
    plan, events = chain(), Events()
    first, *others = plan.steps
    twin = dataclasses.replace(first, id="train/twin")
    shared = dataclasses.replace(plan, steps=(first, twin, *others), targets=(*plan.targets, twin.id))
    run(tmp_path, shared, events)
    assert events.seen[:4] == [
        ("started", "train/a", "1/4"), ("finished", "train/a"), ("cached", "train/twin"), ("started", "train/b", "2/4"),
    ]  # fmt: skip


def test_a_plan_is_run_in_order_and_leaves_receipts(tmp_path: Path) -> None:
    plan, events = chain(), Events()
    receipts = run(tmp_path, plan, events)

    assert events.seen == [
        ("started", "train/a", "1/4"),
        ("finished", "train/a"),
        ("started", "train/b", "2/4"),
        ("finished", "train/b"),
        ("started", "train/c", "3/4"),
        ("finished", "train/c"),
        ("started", "train/d", "4/4"),
        ("finished", "train/d"),
    ]
    assert list(receipts) == ALL
    assert text_of(tmp_path, plan, "train/c") == "a0;a1;b0;b1;c0;c1;"
    assert text_of(tmp_path, plan, "train/d") == "a0;a1;d0;d1;"
    step, receipt = plan.step("train/b"), receipts["train/b"]
    assert (receipt.key, receipt.step, receipt.stage, receipt.pass_name) == (step.key, "train/b", "train", "write")
    assert receipt.config == step.config
    assert receipt.parents == {"in-0": plan.step("train/a").key}
    assert receipt.facts == {"length": 12, "resumed": 0, "seed": 0, "figures": [0.1, 1e-300]}
    assert receipt.size == 12 + 2
    assert receipt.machine == {"cpu": "test"}
    assert set(receipt.toolchain) == {"json"}
    assert receipt.started.endswith("Z")
    assert receipt.seconds >= 0
    state = state_of(LocalStore(tmp_path))
    assert state["tmp"] == state["work"] == []


def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    first = run(tmp_path, chain())
    events = Events()
    again = run(tmp_path, chain(), events)
    assert again == first
    assert events.seen == [("cached", step) for step in ALL]


def test_what_rests_is_not_run_again_and_is_read_where_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path, chain())
    put_to_rest(tmp_path, monkeypatch)
    events = Events()
    assert run(tmp_path, chain(), events) == first
    assert events.seen == [("cached", step) for step in ALL]
    objects = LocalStore(tmp_path).objects
    assert not any(objects.path(digest).exists() for digest in objects.digests()), "to look is no use of it"
    changed = make_plan(draft("train/a", "a"), draft("train/b", "B", ["train/a"]), targets=["train/b"])
    run(tmp_path, changed)
    assert text_of(tmp_path, changed, "train/b") == "a0;a1;B0;B1;"
    assert objects.path(first["train/a"].artifact).is_dir(), "it was unpacked once, under its digest"


def test_a_changed_step_runs_with_what_follows_it(tmp_path: Path) -> None:
    first = run(tmp_path, chain())
    plan = make_plan(
        draft("train/a", "a"),
        draft("train/b", "B", ["train/a"]),
        draft("train/c", "c", ["train/b"]),
        draft("train/d", "d", ["train/a"]),
        targets=["train/c", "train/d"],
    )
    events = Events()
    second = run(tmp_path, plan, events)
    assert events.ran == ["train/b", "train/c"]
    assert {step for step in ALL if first[step].key != second[step].key} == {"train/b", "train/c"}
    assert text_of(tmp_path, plan, "train/c") == "a0;a1;B0;B1;c0;c1;"


def test_the_seed_and_the_source_reach_the_pass(tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_text("from the source ")
    plan = make_plan(draft("resolve/x", "x", uri="file:///data", seed=41))
    receipts = make_runner(tmp_path / "store", source=source).run(plan)
    assert receipts["resolve/x"].facts["seed"] == 41
    assert text_of(tmp_path / "store", plan, "resolve/x") == "from the source x0;x1;"


def test_what_several_steps_find_is_said_once_in_a_run(tmp_path: Path) -> None:
    told = "all rows are of class io"
    events = Events()
    runner = make_runner(tmp_path, events)
    runner.run(chain(once=told))
    assert (events.ran, events.said) == (ALL, [told])
    runner.run(chain(once=told))
    assert events.said == [told], "nothing ran"
    runner.run(chain(once=told, parts=3))
    assert events.said == [told, told], "another build, which may be read by somebody else"


def test_an_error_names_the_field_of_the_resource_that_the_step_works_for(tmp_path: Path) -> None:
    plan = make_plan(draft("resolve/gate-data", "x", trouble="relative"))
    with pytest.raises(DataError) as refused:
        run(tmp_path, plan)
    assert [problem.field for problem in refused.value.problems] == ["spec.gate.data.uri", "spec.gate.data.columns.label"]


@pytest.mark.parametrize(("step", "field"), [("resolve/calibration", "spec.compress.calibration"), ("resolve/source", "")])
def test_a_pass_knows_what_its_data_is_for(tmp_path: Path, step: str, field: str) -> None:
    with pytest.raises(DataError) as refused:
        run(tmp_path, make_plan(draft(step, "x", trouble="purpose")))
    assert refused.value.problem.found == field


@pytest.mark.parametrize(("after", "found"), [("augmented", "spec.distill.data, copied"), ("balanced", "spec.distill.data")])
def test_an_import_knows_whether_its_rows_are_copied(tmp_path: Path, after: str, found: str) -> None:
    plan = make_plan(draft("resolve/data", "x", trouble="purpose"), draft(f"train/{after}", "y", ["resolve/data"]))
    with pytest.raises(DataError) as refused:
        run(tmp_path, plan)
    assert refused.value.problem.found == found


def foreseen(text: str) -> Plan:
    return make_plan(
        draft("resolve/gate-data", text, stage="resolve"),
        draft("train/long", "fine"),
        draft("gate/gate", "x", ["train/long", "resolve/gate-data"], pass_name="choosy", stage="gate"),
    )


def test_what_a_later_step_foresees_from_imports_is_told_before_the_work(tmp_path: Path) -> None:
    plan, events = foreseen("bad"), Events()
    with pytest.raises(DataError) as refused:
        run(tmp_path, plan, events)
    assert events.ran == ["resolve/gate-data"]
    assert refused.value.problem.found == "in-1", "only imports are shown"
    assert refused.value.problem.field == "spec.source.uri"
    again = Events()
    with pytest.raises(DataError):
        run(tmp_path, plan, again)
    assert again.ran == [], "it is asked again, for it left no receipt"
    good = Events()
    run(tmp_path, foreseen("good"), good)
    assert good.ran == ["resolve/gate-data", "train/long", "gate/gate"]


def test_what_the_first_step_foresees_is_told_before_it_begins(tmp_path: Path) -> None:
    events = Events()
    rows = draft("resolve/gate-data", "bad", stage="resolve")
    with pytest.raises(DataError):
        run(tmp_path, make_plan(rows, draft("train/long", "x", ["resolve/gate-data"], pass_name="choosy")), events)
    assert events.ran == ["resolve/gate-data"]


def test_looking_changes_nothing(tmp_path: Path) -> None:
    """`still plan` and `still status` ask what there is to do; only a build may mend."""
    plan = chain()
    run(tmp_path, plan)
    damage(tmp_path, plan, "train/c")
    store = LocalStore(tmp_path)
    before = state_of(store)
    runner = make_runner(tmp_path)
    assert [step.id for step in runner.todo(plan)] == ["train/c"]
    assert runner.done(plan.step("train/c")) is None
    assert state_of(store) == before


def test_two_steps_with_equal_results_share_an_object(tmp_path: Path) -> None:
    plan = make_plan(draft("train/x", "same", seed=0), draft("train/y", "same", parts=2), targets=["train/x", "train/y"])
    receipts = run(tmp_path, plan)
    assert plan.step("train/x").key != plan.step("train/y").key
    assert receipts["train/x"].artifact == receipts["train/y"].artifact
    damage(tmp_path, plan, "train/x")
    again = run(tmp_path, plan)
    assert again["train/y"].artifact == receipts["train/y"].artifact
    assert LocalStore(tmp_path).objects.check(again["train/y"].artifact, full=True) == ""


def test_two_steps_with_one_key_run_once(tmp_path: Path) -> None:
    plan = make_plan(draft("train/x", "same"), draft("train/y", "same"), targets=["train/x", "train/y"])
    events = Events()
    receipts = run(tmp_path, plan, events)
    assert events.seen[-1] == ("cached", "train/y")
    assert receipts["train/x"].artifact == receipts["train/y"].artifact


def test_only_what_the_targets_lack_is_run(tmp_path: Path) -> None:
    plan = chain()
    store = LocalStore(tmp_path)
    receipts = run(tmp_path, plan)
    for step in ("train/a", "train/b"):
        store.forget(plan.step(step).key)
        store.objects.drop(receipts[step].artifact)

    events = Events()
    found = run(tmp_path, plan, events)
    assert events.ran == []
    assert set(found) == {"train/c", "train/d"}

    store.forget(plan.step("train/d").key)
    events = Events()
    run(tmp_path, plan, events)
    assert events.ran == ["train/a", "train/d"]
    assert [event for event in events.seen if event[0] == "cached"] == [("cached", "train/c")]


def test_two_runners_at_once_share_the_work(tmp_path: Path) -> None:
    plan = chain()
    listeners = [Events() for _ in range(4)]
    found: list[dict[str, Receipt]] = []
    errors: list[BaseException] = []

    def work(events: Events) -> None:
        try:
            found.append(run(tmp_path, plan, events))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(events,)) for events in listeners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert all(each == found[0] for each in found)
    assert sorted(step for events in listeners for step in events.ran) == ALL
    for events in listeners:
        assert [step for kind, step, *_ in events.seen if kind in {"finished", "cached"}] == ALL


def test_reading_what_is_stored_and_storing_are_told(tmp_path: Path) -> None:
    events, plan = Events(), chain()
    run(tmp_path, plan, events)
    assert {message for message, _, _ in events.updates} >= {"storing the result"}
    assert not any(message.startswith("checking") for message, _, _ in events.updates), "this process wrote it"
    again = Events()
    run(tmp_path, plan, again)
    assert {message for message, _, _ in again.updates} == {"checking train/c", "checking train/d"}
    last = {message: done == total for message, done, total in again.updates}
    assert all(last.values())
