"""`still doctor` on the store: what is damaged is named, with how bad it is and what mends it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support.passes import Events, draft, make_plan
from tests.support.stores import DAMAGE, FILES, key, put, receipt_of

from stillhouse.clients.store import objects
from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.local import examining
from stillhouse.entrypoints.local.state import accepted
from stillhouse.entrypoints.local.verifying import verify
from stillhouse.extras import install
from stillhouse.passes.base import SilentProgress

from .conftest import Still

STEPS = {
    "resolve/source": [],
    "train/student": ["resolve/source"],
    "compress/int8": ["train/student"],
    "gate/gate": ["compress/int8"],
}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def made(store: LocalStore) -> dict[str, str]:
    """A model of four steps; step → digest."""
    digests = {step: put(store, {**FILES, "step": step.encode()}) for step in STEPS}
    for step, digest in digests.items():
        store.finish(receipt_of(step, digest))
    steps = [
        {"id": step, "key": key(step), "parents": {f"in-{n}": parent for n, parent in enumerate(parents)}}
        for step, parents in STEPS.items()
    ]
    revision = {
        "digest": digests["gate/gate"],
        "index": None,
        "steps": [{"id": step["id"], "key": step["key"]} for step in steps],
        "planHash": "plan",
        "time": "2026-11-22T08:00:00Z",
    }
    store.write_state("tiny", {"name": "tiny", "file": "/m/tiny.yaml", "planHash": "plan", "steps": steps, "revision": revision})
    return digests


def found(store: LocalStore, *, contents: bool = True) -> list[dict[str, Any]]:
    return verify(LocalStore(store.root), contents=contents, progress=SilentProgress())


def flip(store: LocalStore, digest: str) -> None:
    DAMAGE["a flipped bit"](store.objects.path(digest))


def test_a_whole_store_is_one_finding(store: LocalStore, made: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = found(store)
    assert (whole["state"], whole["detail"][:9]) == ("ok", "4 objects")
    with monkeypatch.context() as patched:
        patched.setattr(objects, "hash_file", lambda *_, **__: pytest.fail("it read contents"))
        (quick,) = found(store, contents=False)
    assert quick["state"] == "ok"
    assert "still doctor --store" in quick["detail"]


@pytest.mark.parametrize("kind", sorted(DAMAGE))
def test_every_damage_of_what_serves_is_found_with_what_mends_it(store: LocalStore, made: dict[str, str], kind: str) -> None:
    DAMAGE[kind](store.objects.path(made["gate/gate"]))
    (finding,) = found(store)
    assert finding["state"] == "failed"
    assert "tiny, gate/gate" in finding["title"]
    assert finding["detail"].startswith(made["gate/gate"] + ": ")
    assert finding["fix"] == "still build /m/tiny.yaml"


def test_contents_are_read_when_asked_for_and_told(store: LocalStore, made: dict[str, str]) -> None:
    flip(store, made["gate/gate"])
    assert [finding["state"] for finding in found(store, contents=False)] == ["ok"]
    events = Events()
    with events.busy("store") as progress:
        verify(LocalStore(store.root), contents=True, progress=progress)
    total = sum(store.objects.size(digest) for digest in made.values())
    assert {(message, every) for message, _, every in events.updates} == {("reading what is stored", total)}
    done = [done for _, done, _ in events.updates]
    assert done == sorted(done)


def test_what_is_gone_is_found_without_reading(store: LocalStore, made: dict[str, str]) -> None:
    shutil.rmtree(store.objects.path(made["gate/gate"]))
    (finding,) = found(store, contents=False)
    assert (finding["state"], finding["detail"]) == ("failed", f"{made['gate/gate']}: it is gone")


def test_what_no_build_needs_now_is_a_warning_until_one_does(store: LocalStore, made: dict[str, str]) -> None:
    flip(store, made["train/student"])
    (finding,) = found(store)
    assert (finding["state"], finding["title"]) == ("warning", "stored object of tiny, train/student")
    assert finding["fix"].startswith("nothing to do")
    flip(store, made["gate/gate"])
    states = {finding["title"].rpartition(" ")[2]: finding["state"] for finding in found(store)}
    assert states == {"train/student": "warning", "gate/gate": "failed"}, "the step between them is whole"
    flip(store, made["compress/int8"])
    assert {finding["state"] for finding in found(store)} == {"failed"}


def test_a_former_revision_can_only_be_forgotten(store: LocalStore, made: dict[str, str]) -> None:
    state = store.state("tiny")
    old = put(store, {"model.onnx": b"old"})
    state["history"] = [{**state["revision"], "digest": old, "steps": [], "planHash": "old", "time": "2026-11-01T08:00:00Z"}]
    store.write_state("tiny", state)
    assert [finding["state"] for finding in found(store)] == ["ok"]
    shutil.rmtree(store.objects.path(old))
    (finding,) = found(store)
    assert finding["state"] == "warning"
    assert old[7:19] in finding["title"]
    assert finding["fix"].endswith(f"rm -rf {store.objects.path(old)} && still build /m/tiny.yaml")


def test_the_revision_of_another_plan_fails(store: LocalStore, made: dict[str, str]) -> None:
    """A later plan did not pass its gate: what serves is older than the file."""
    store.write_state("tiny", {**store.state("tiny"), "planHash": "later", "steps": []})
    flip(store, made["gate/gate"])
    (finding,) = found(store)
    assert finding["state"] == "failed"
    assert "as they were on 2026-11-22" in finding["fix"]


def test_what_no_model_refers_to_and_what_cannot_be_read(store: LocalStore, made: dict[str, str]) -> None:
    stray = put(store, {"a": b"stray"})
    store.finish(receipt_of("train/stray", stray))
    shutil.rmtree(store.objects.path(stray))
    store.receipt_path(key("resolve/source")).write_text("{")
    (store.root / "models/broken").mkdir()
    (store.root / "models/broken/state.json").write_text("[")
    findings = {finding["title"]: finding for finding in found(store)}
    assert findings["stored object of train/stray, of no model"]["fix"] == "still gc"
    assert findings[f"receipt {key('resolve/source')[:12]}"]["state"] == "warning"
    assert findings["what is known of broken"]["state"] == "failed"
    assert "still gc --forget broken" in findings["what is known of broken"]["fix"]
    assert len(findings) == 3


def test_the_command(still: Still, store: LocalStore, made: dict[str, str]) -> None:
    def of_store(*options: str) -> tuple[int, list[dict[str, Any]]]:
        result = still("doctor", "-o", "json", *options)
        return result.code, [finding for finding in json.loads(result.out) if finding["title"].startswith("stored")]

    flip(store, made["gate/gate"])
    assert [finding["state"] for finding in of_store()[1]] == ["ok"]
    code, (finding,) = of_store("--store")
    assert (code, finding["state"]) == (5, "failed")
    text = still("doctor", "--store").out
    assert "fix: still build /m/tiny.yaml" in text
    assert LocalStore(store.root).receipt(key("gate/gate")) is not None, "it changes nothing"


def test_a_build_forgets_the_former_revisions_that_are_not_there(store: LocalStore, made: dict[str, str]) -> None:
    """So `doctor` has no more to say once a build has mended what can be mended."""
    plan = make_plan(draft("gate/gate"))
    gate = {"candidates": [], "precision": "int8", "size": 1, "truncated": {}}
    whole, gone, new = (put(store, {"model.onnx": name}) for name in (b"whole", b"gone", b"new"))
    state = store.state("tiny")
    former = {**state["revision"], "steps": []}
    state |= {"revision": {**former, "digest": gone}, "history": [{**former, "digest": whole}]}
    store.write_state(plan.name, state)
    shutil.rmtree(store.objects.path(gone))
    config = {"metrics": [], "limits": {}, "serve": {}}
    accepted(store, plan, {"gate/gate": receipt_of("gate/gate", new, facts=gate, config=config)})
    assert [each["digest"] for each in store.state(plan.name)["history"]] == [whole]


def test_a_verdict_is_as_old_as_its_figures(store: LocalStore) -> None:
    """A build that finds everything in the store has measured nothing."""
    plan = make_plan(draft("gate/gate"))
    facts = {"candidates": [], "precision": "int8", "size": 1, "truncated": {}}
    config = {"metrics": [], "limits": {}, "serve": {}}
    when = {"started": "2026-11-22T08:00:30Z", "seconds": 45.2}
    gate = receipt_of("gate/gate", put(store, {"model.onnx": b"new"}), facts=facts, config=config, **when)
    accepted(store, plan, {"gate/gate": gate})
    state = store.state(plan.name)
    assert state["verdict"]["time"] == state["revision"]["time"] == "2026-11-22T08:01:15Z"


@pytest.mark.parametrize("alone", ["gateway", "operator"])
def test_an_installation_is_judged_by_what_it_is_for(still: Still, monkeypatch: pytest.MonkeyPatch, alone: str) -> None:
    others = {"gateway": "operator", "operator": "gateway"}[alone]
    missing = {"serve": ["tritonclient", "pyarrow"], "build": ["torch"], alone: [], others: ["something"]}
    monkeypatch.setattr(examining, "lacking", missing.__getitem__)
    done = still("doctor")
    assert done.code == 0, done.out
    assert f"packages of the {alone}: installed" in done.out
    assert "Triton" not in done.out


def test_where_serving_lacks_a_package_it_is_told_with_what_installs_it(still: Still, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"serve": ["pyarrow"], "build": [], "gateway": [], "operator": []}
    monkeypatch.setattr(examining, "lacking", missing.__getitem__)
    done = still("doctor")
    assert done.code == 5
    assert f"fix: {install('serve')}" in done.out
