"""Where `still edge` finds the models of a pipeline's steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.api_objects import GONE, complete, edited

from stillhouse.api.model import DistilledModel
from stillhouse.clients.store.files import write_json
from stillhouse.clients.store.local import LocalStore
from stillhouse.edge.config import read
from stillhouse.entrypoints.edge import others, remarks
from stillhouse.entrypoints.edge.preparing import Given, prepare
from stillhouse.errors import UsageError
from stillhouse.planning.build import request_hash


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """A store in which the first model was built, as its state says."""
    store = LocalStore(tmp_path / "home")
    revision: dict[str, Any] = {"digest": f"sha256:{'0' * 64}", "precision": "int8"}
    monkeypatch.setattr(store, "state", lambda _: {"revision": revision})
    monkeypatch.setattr(store.objects, "check", lambda _: "")
    return store


def test_steps_are_where_still_up_serves_them_or_at_the_cloud(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "distilledmodel.yaml"
    write_json(file, edited(complete("apart"), {"metadata.name": "mails"}), tmp=store.tmp)
    with pytest.raises(UsageError, match="nobody has said where a step's model is") as told:
        prepare(store, file, Given())
    assert told.value.problem.field == "spec.pipeline.steps"
    assert "topics" in told.value.problem.found
    monkeypatch.setattr(others, "served_here", lambda _, name: "grpc://127.0.0.1:8003" if name == "topics" else None)
    pipeline = read(prepare(store, file, Given(cloud="grpcs://cloud.example:443")).config).pipeline
    assert pipeline is not None
    places = {step.at.model: (step.at.kind, getattr(step.at, "backends", None), step.at.tls) for step in pipeline.steps}
    assert places == {
        "topics": ("backends", {"127.0.0.1:8003": 1.0}, False),
        "moods": ("backends", {"cloud.example:443": 1.0}, True),
    }
    assert pipeline.says == ("PROBABILITIES", "LABEL", "PROVENANCE")


CASCADE = {"cascade": {"larger": {"model": "large"}, "data": {"uri": "data:t"}, "escalationBudget": "20%"}}


def test_a_larger_model_that_was_taken_down_is_told_with_the_lines_that_go_on(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {"large": {"file": "/models/large one.yaml"}, "small": {"revision": {"digest": "sha256:0", "cascade": "s"}}}
    monkeypatch.setattr(store, "state", states.get)
    file = tmp_path / "small.yaml"
    write_json(
        file, edited(complete("apart"), {"metadata.name": "small", "spec.pipeline": GONE, "spec.edge": CASCADE}), tmp=store.tmp
    )
    with pytest.raises(UsageError, match="nobody has said where the larger model is") as told:
        prepare(store, file, Given())
    assert (
        told.value.problem.fix == "serve it here: still up --detach '/models/large one.yaml'; or give --cloud grpcs://HOST:PORT"
    )
    before = {"cascade": {"larger": {"tls": True, "authority": "/ca.crt", "backends": {"cloud.example:443": 1.0}}}}
    write_json(store.root / "edge" / "small" / "gateway.json", before, tmp=store.tmp)
    with pytest.raises(UsageError) as told:
        prepare(store, file, Given())
    line = f"still edge {file} --cloud grpcs://cloud.example:443 --cloud-authority /ca.crt"
    assert told.value.problem.fix.endswith(f"ask where the last gateway asked: {line}")


def test_a_file_that_asks_for_more_than_serves_is_told() -> None:
    model = DistilledModel.model_validate(complete("apart"))
    revision = {"digest": "sha256:" + "1" * 64, "time": "2026-11-26T11:22:06Z", "fileHash": request_hash(model, {})}
    assert remarks.older(model, Path("a.yaml"), revision) == ""
    assert remarks.older(model, Path("a.yaml"), {**revision, "fileHash": None}) == "", "a store of before"
    other = DistilledModel.model_validate(edited(complete("apart"), {"spec.source.maxLength": 17}))
    said = remarks.older(other, Path("a.yaml"), revision)
    assert "revision 111111111111 serves, built 2026-11-26T11:22:06Z from request" in said
    assert revision["fileHash"][:12] in said
    assert request_hash(other, {})[:12] in said
    assert said.endswith("still build a.yaml")


def test_a_larger_model_of_another_source_is_told(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def made_of(digest: str) -> dict[str, Any]:
        return {"lineage": {"sources": [{"name": "data", "digest": "0"}, {"name": "source", "uri": "u", "digest": digest}]}}

    model = DistilledModel.model_validate(complete("text"))
    assert model.spec.edge and model.spec.edge.cascade
    large = model.spec.edge.cascade.larger.model
    known = {large: {"revision": made_of("sha256:aaaaaaaaaaaa1")}}
    monkeypatch.setattr(store, "state", lambda name: known.get(name, {}))
    assert remarks.other_source(store, model, made_of("sha256:aaaaaaaaaaaa1")) == ""
    said = remarks.other_source(store, model, made_of("sha256:bbbbbbbbbbbb2"))
    assert large in said and "aaaaaaaaaaaa" in said and "bbbbbbbbbbbb" in said
    assert remarks.other_source(store, model, {}) == "", "a build of before"
