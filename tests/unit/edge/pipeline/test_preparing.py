"""Where `still edge` finds the models of a pipeline's steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.api_objects import complete, edited

from stillhouse.clients.store.files import write_json
from stillhouse.clients.store.local import LocalStore
from stillhouse.edge.config import read
from stillhouse.entrypoints.edge import preparing
from stillhouse.entrypoints.edge.preparing import Given, prepare
from stillhouse.errors import UsageError


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
    monkeypatch.setattr(preparing, "_served_here", lambda _, name: "grpc://127.0.0.1:8003" if name == "topics" else None)
    pipeline = read(prepare(store, file, Given(cloud="grpcs://cloud.example:443")).config).pipeline
    assert pipeline is not None
    places = {step.at.model: (step.at.kind, getattr(step.at, "backends", None), step.at.tls) for step in pipeline.steps}
    assert places == {
        "topics": ("backends", {"127.0.0.1:8003": 1.0}, False),
        "moods": ("backends", {"cloud.example:443": 1.0}, True),
    }
    assert pipeline.says == ("PROBABILITIES", "LABEL", "PROVENANCE")
