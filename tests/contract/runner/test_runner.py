"""The runner: what is cached, what runs again, what an interruption leaves, and what listeners hear."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from pathlib import Path

import pytest
from tests.support.passes import PASSES, Events, chain, draft, make_plan, make_runner
from tests.support.stores import DAMAGE, state_of

from stillhouse.clients.store import packed
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.receipts import Receipt
from stillhouse.errors import DataError, MissingPackages, SourceError, StoreError
from stillhouse.passes.attempts import ATTEMPTS_FILE
from stillhouse.passes.runner import Machine, Runner, StepFailed
from stillhouse.planning.plan import Plan

ALL = ["train/a", "train/b", "train/c", "train/d"]


def run(root: Path, plan: Plan, events: Events | None = None) -> dict[str, Receipt]:
    return make_runner(root, events).run(plan)


def test_steps_that_share_a_result_are_counted_as_one(tmp_path: Path) -> None:
    plan, events = chain(), Events()
    first, *others = plan.steps
    twin = dataclasses.replace(first, id="train/twin")
    shared = dataclasses.replace(plan, steps=(first, twin, *others), targets=(*plan.targets, twin.id))
    run(tmp_path, shared, events)
    assert events.seen[:4] == [
        ("started", "train/a", "1/4"), ("finished", "train/a"), ("cached", "train/twin"), ("started", "train/b", "2/4"),
    ]  # fmt: skip


def damage(root: Path, plan: Plan, step: str, kind: str = "flip") -> None:
    store = LocalStore(root)
    receipt = store.receipt(plan.step(step).key)
    assert receipt is not None
    path = store.objects.path(receipt.artifact) / "text"
    path.chmod(0o644)
    path.write_text(path.read_text().swapcase())


def text_of(root: Path, plan: Plan, step: str) -> str:
    return (make_runner(root).artifact(plan.step(step)).path / "text").read_text()


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


def put_to_rest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pack every object, as a collection does with what is worth it: these have a few bytes."""
    monkeypatch.setattr(packed, "WORTH", -1e9)
    monkeypatch.setattr(packed, "_SMALLEST", 0)
    objects = LocalStore(root).objects
    for digest in objects.digests():
        objects.pack(digest)
        assert not objects.path(digest).exists()


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


# damage -----------------------------------------------------------------------------------------------------------------


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


# what is wanted ---------------------------------------------------------------------------------------------------------


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


def test_a_result_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as gone:
        make_runner(tmp_path).artifact(chain().step("train/a"))
    assert gone.value.problem.field == "train/a"


# what goes wrong --------------------------------------------------------------------------------------------------------


def test_an_interruption_keeps_the_scratch_and_the_next_run_goes_on(tmp_path: Path) -> None:
    root, flag = tmp_path / "store", tmp_path / "flag"
    plan = chain(trouble="interrupt", flag=str(flag))
    with pytest.raises(KeyboardInterrupt):
        run(root, plan)
    state = state_of(LocalStore(root))
    assert set(state["receipts"]) == {plan.step("train/a").key}  # type: ignore[call-overload]
    assert state["work"] == [plan.step("train/b").key]
    assert state["tmp"] == []

    flag.touch()
    receipts = run(root, plan)
    assert receipts["train/b"].facts["resumed"] == 1
    assert text_of(root, plan, "train/c") == "a0;a1;b0;b1;c0;c1;"
    assert state_of(LocalStore(root))["work"] == []


def interrupted(tmp_path: Path) -> tuple[Path, Plan, Path]:
    """Return a store, a plan, and the scratch of its step b, which was interrupted after its first part."""
    root, flag = tmp_path / "store", tmp_path / "flag"
    plan = chain(trouble="interrupt", flag=str(flag))
    with pytest.raises(KeyboardInterrupt):
        run(root, plan)
    flag.touch()
    return root, plan, root / "work" / plan.step("train/b").key


def test_a_receipt_counts_the_time_of_every_attempt_that_left_something(tmp_path: Path) -> None:
    root, plan, scratch = interrupted(tmp_path)
    record = json.loads((scratch / ATTEMPTS_FILE).read_text())
    assert set(record) == {"seconds"}, "it could say how long it ran"
    assert 0 < record["seconds"] < 1000
    (scratch / ATTEMPTS_FILE).write_text(json.dumps({"seconds": 5000.0}))
    receipts = run(root, plan)
    assert 5000 < receipts["train/b"].seconds < 6000
    assert receipts["train/c"].seconds < 1000


def test_a_killed_attempt_counts_up_to_the_last_thing_it_wrote(tmp_path: Path) -> None:
    root, plan, scratch = interrupted(tmp_path)
    (scratch / ATTEMPTS_FILE).write_text(json.dumps({"seconds": 5000.0, "started": 1_700_000_000.0}))
    os.utime(scratch / "part-0", (1_700_000_700.0, 1_700_000_700.0))
    assert 5700 < run(root, plan)["train/b"].seconds < 6700


@pytest.mark.parametrize("record", ["", "{", "[]", '{"seconds": "x"}', '{"seconds": null, "started": 3}'])
def test_a_record_of_attempts_that_cannot_be_read_counts_nothing(tmp_path: Path, record: str) -> None:
    root, plan, scratch = interrupted(tmp_path)
    (scratch / ATTEMPTS_FILE).write_text(record)
    assert run(root, plan)["train/b"].seconds < 1000


def test_what_is_begun_anew_does_not_count_what_was_lost(tmp_path: Path) -> None:
    root, plan, scratch = interrupted(tmp_path)
    (scratch / ATTEMPTS_FILE).write_text(json.dumps({"seconds": 5000.0}))
    (scratch / "part-0").unlink()
    assert run(root, plan)["train/b"].seconds < 1000


ERRORS: list[tuple[str, type[Exception], str]] = [
    ("user", DataError, "rows are missing"),
    ("bug", StepFailed, "step train/b failed"),
    ("rights", StepFailed, "step train/b failed"),
    ("full", StoreError, "the disk is full"),
    ("blamed", StoreError, "the disk is full"),
    ("manifest", StoreError, "store's own file"),
    ("link", StoreError, "plain files only"),
    ("nan", StepFailed, "step train/b failed"),
]


@pytest.mark.parametrize(("trouble", "error", "says"), ERRORS, ids=[trouble for trouble, _, _ in ERRORS])
def test_an_error_leaves_no_half_artifact_and_keeps_what_is_finished(
    tmp_path: Path, trouble: str, error: type[Exception], says: str
) -> None:
    plan = chain(trouble=trouble)
    events = Events()
    with pytest.raises(error, match=says):
        run(tmp_path, plan, events)
    state = state_of(LocalStore(tmp_path))
    assert [step for step in ALL if plan.step(step).key in state["receipts"]] == ["train/a"]  # type: ignore[operator]
    assert state["tmp"] == []
    assert events.ran == ["train/a", "train/b"]

    # The same step, mended, goes on.
    good = chain(trouble="")
    assert set(run(tmp_path, good)) == set(ALL)


def test_the_error_of_a_file_of_the_user_is_not_blamed_on_the_store(tmp_path: Path) -> None:
    with pytest.raises(StepFailed) as failed:
        run(tmp_path, chain(trouble="rights"))
    assert isinstance(failed.value.__cause__, PermissionError)


def test_a_bug_is_shown_with_its_step_and_cause(tmp_path: Path) -> None:
    with pytest.raises(StepFailed) as failed:
        run(tmp_path, chain(trouble="bug"))
    assert failed.value.step.id == "train/b"
    assert isinstance(failed.value.__cause__, ZeroDivisionError)


def test_a_configuration_that_the_pass_refuses_is_a_bug_of_planning(tmp_path: Path) -> None:
    with pytest.raises(StepFailed):
        run(tmp_path, make_plan(draft("train/a", "a", unknown=1)))
    assert state_of(LocalStore(tmp_path))["tmp"] == []


def test_facts_that_are_no_dataclass_are_a_bug_of_the_pass(tmp_path: Path) -> None:
    with pytest.raises(StepFailed):
        run(tmp_path, make_plan(draft("train/a", pass_name="no-dataclass")))
    store = LocalStore(tmp_path)
    assert store.objects.digests() == []
    assert list(store.tmp.iterdir()) == []


def test_missing_packages_are_named_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(MissingPackages) as missing:
        run(tmp_path, make_plan(draft("train/a", pass_name="absent")))
    assert "a_package_that_nobody_has" in missing.value.problem.found
    assert missing.value.problem.fix.startswith("pip install")
    assert state_of(LocalStore(tmp_path))["objects"] == {}


def test_a_source_that_cannot_be_fetched_leaves_nothing(tmp_path: Path) -> None:
    def fetch(uri: str) -> Path:
        raise SourceError("not reachable", field=uri)

    runner = Runner(LocalStore(tmp_path), Machine(threads=1), fetch, Events(), PASSES)
    with pytest.raises(SourceError):
        runner.run(make_plan(draft("resolve/x", "x", uri="file:///data")))
    assert state_of(LocalStore(tmp_path))["tmp"] == []


# two at once ------------------------------------------------------------------------------------------------------------


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


def test_a_lost_interrupt_stops_the_run_after_the_step(tmp_path: Path) -> None:
    """C extensions can drop a KeyboardInterrupt: the runner asks again, and what was finished stays."""
    plan, events = chain(), Events()
    machine, store = Machine(threads=1), LocalStore(tmp_path)
    runner = Runner(store, machine, Path, events, PASSES, stopping=lambda: ("finished", "train/b") in events.seen)
    with pytest.raises(KeyboardInterrupt):
        runner.run(plan)
    assert [step for step in ALL if store.receipt(plan.step(step).key)] == ["train/a", "train/b"]
    assert list(run(tmp_path, plan)) == ALL


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
