"""A run that is interrupted or fails keeps what is finished; the next one goes on and counts every attempt."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.support.passes import PASSES, Events, chain, draft, make_plan
from tests.support.runs import ALL, run, text_of
from tests.support.stores import state_of

from stillhouse.clients.store.local import LocalStore
from stillhouse.errors import DataError, MissingPackages, SourceError, StoreError
from stillhouse.passes.attempts import ATTEMPTS_FILE
from stillhouse.passes.runner import Machine, Runner, StepFailed
from stillhouse.planning.plan import Plan


def test_an_interruption_keeps_the_scratch_and_the_next_run_goes_on(tmp_path: Path) -> None:
    root, flag = tmp_path / "store", tmp_path / "flag"
    plan = chain(trouble="interrupt", flag=str(flag))
    with pytest.raises(KeyboardInterrupt):
        run(root, plan)
    state = state_of(LocalStore(root))
    assert set(state["receipts"]) == {plan.step("train/a").key}
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
    assert [step for step in ALL if plan.step(step).key in state["receipts"]] == ["train/a"]
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


def test_a_lost_interrupt_stops_the_run_after_the_step(tmp_path: Path) -> None:
    """C extensions can drop a KeyboardInterrupt: the runner asks again, and what was finished stays."""
    plan, events = chain(), Events()
    machine, store = Machine(threads=1), LocalStore(tmp_path)
    runner = Runner(store, machine, Path, events, PASSES, stopping=lambda: ("finished", "train/b") in events.seen)
    with pytest.raises(KeyboardInterrupt):
        runner.run(plan)
    assert [step for step in ALL if store.receipt(plan.step(step).key)] == ["train/a", "train/b"]
    assert list(run(tmp_path, plan)) == ALL
