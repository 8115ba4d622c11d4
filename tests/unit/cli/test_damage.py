"""Records of a store that are JSON and not what was written: every command says so, none ends as if it had a bug."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.cli import Project

from stillhouse.clients.store.local import LocalStore

from .conftest import Still

RECORDS: list[Any] = [
    {"pid": 1},
    {"handle": {"pid": 1}},
    {"handle": 7, "revision": "x", "precision": "int8", "started": "", "supervisor": 0},
    {"digest": "sha256:0"},
    [],
]
STATES: list[Any] = [{"revision": 5}, {"history": 7}, {"steps": [{"key": 1}]}, {"generation": "x"}, {"conditions": {}}, 7]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    store.write_state("tiny", {"file": "/m/tiny.yaml"})
    return store


def commands(still: Still) -> dict[str, int]:
    names = (
        "status",
        "infer tiny x",
        "bench tiny",
        "logs tiny",
        "compare tiny tiny",
        "rebuild tiny",
        "gc --dry-run",
        "doctor",
        "down tiny",
    )
    codes = {}
    for line in names:
        result = still(*line.split())
        assert "internal" not in result.err
        assert "Traceback" not in result.err
        codes[line] = result.code
    return codes


@pytest.mark.parametrize("record", RECORDS, ids=json.dumps)
def test_a_servers_record_that_is_none(record: Any, still: Still, store: LocalStore) -> None:
    path = store.run_dir("tiny") / "server.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    assert set(commands(still).values()) <= {0, 2}
    assert json.loads(still("status", "-o", "json").out)[0]["server"] is None


@pytest.mark.parametrize("state", STATES, ids=json.dumps)
def test_a_models_state_that_is_none(state: Any, still: Still, store: LocalStore) -> None:
    (store.root / "models/tiny/state.json").write_text(json.dumps(state))
    codes = commands(still)
    assert codes.pop("gc --dry-run") == codes.pop("doctor") == 5, "what the model needs is not known, so nothing may be freed"
    assert set(codes.values()) <= {0, 2}
    assert "cannot be read; run still up FILE again" in still("status").out


def test_a_plan_is_made_all_the_same(still: Still, store: LocalStore, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", tmp_path / "store", tmp_path / "cache").create()
    (store.root / "models/tiny/state.json").write_text('{"revision": 5}')
    assert still("plan", str(project.file)).code == 0
