"""A model between: it counts in the plan's keys, is taken as it was built, and is asked where somebody says it is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.api_objects import complete, edited
from tests.support.artifacts import context
from tests.support.plans import environment, keys

from stillhouse.api.load import parse
from stillhouse.clients.store.local import LocalStore
from stillhouse.edge.config import read
from stillhouse.edge.sections.places import LargerBackends
from stillhouse.entrypoints.edge.preparing import Given, prepare
from stillhouse.entrypoints.local.between import find_middle
from stillhouse.errors import SourceError, UsageError
from stillhouse.passes.sources.revision import ImportRevision, ImportRevisionConfig
from stillhouse.planning.build import build_plan
from stillhouse.planning.plan import Pin
from stillhouse.planning.request import middle_uri


def model(**middle: Any) -> Any:
    return parse(edited(complete("class"), {"spec.edge.cascade.middle": {"model": "between", **middle}}))


def put(store: LocalStore, folder: Path, name: str, kind: str = "revision", **files: str) -> str:
    folder.mkdir()
    for each, text in files.items():
        (folder / f"{each}.json").write_text(text)
    digest = store.objects.put(folder, kind)[0]
    if kind == "revision":
        store.write_state(name, {"revision": {"digest": digest, "precision": "int8"}})
    return digest


def test_what_was_built_of_it_is_in_the_cascades_key_and_in_no_other() -> None:
    given = model()
    env = environment(given)

    def plan(digest: str) -> Any:
        pins = {**env.pins, middle_uri("between"): Pin("sha256:" + digest * 64)}
        return build_plan(given, dataclasses.replace(env, pins=pins))

    one, two = plan("1"), plan("2")
    different = {step for step, key in keys(one).items() if keys(two)[step] != key}
    assert different == {"resolve/cascade-middle", "gate/cascade"}
    assert one.step("gate/cascade").parents["middle"] == "resolve/cascade-middle"
    assert one.step("gate/cascade").config["middleCost"] == 3.0
    assert one.request_hash == two.request_hash


def test_it_is_taken_as_it_was_built(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "home")
    with pytest.raises(SourceError, match="nothing has been built"):
        find_middle(model(), store)
    digest = put(store, tmp_path / "built", "between", signature="{}", receipt="{}")
    found = find_middle(model(), store)
    assert found is not None
    resolved, pin = found
    assert pin.digest == digest
    ctx = dataclasses.replace(context(tmp_path), source=resolved.fetch())
    ImportRevision().run(ImportRevisionConfig(digest=digest), {}, ctx)
    assert store.objects.put(ctx.out, ImportRevision.kind)[0] == digest


def test_the_gateway_asks_it_where_it_is_said_to_be(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "home")
    file = tmp_path / "model.yaml"
    given = edited(complete("class"), {"spec.edge.cascade.middle": {"model": "between"}, "spec.edge.clients": {}})
    file.write_text(json.dumps(given))
    name = given["metadata"]["name"]
    solved = {"model": "between", "digest": "sha256:" + "5" * 64}
    digest = put(store, tmp_path / "small", name, signature="{}")
    point = put(store, tmp_path / "cascade", name, "cascade", cascade=json.dumps({"threshold": 0.5, "middle": solved}))
    store.write_state(name, {"revision": {"digest": digest, "precision": "int8", "cascade": point}})
    with pytest.raises(UsageError, match="where the model between is"):
        prepare(store, file, Given(cloud="grpcs://cloud.example:443"))
    both = Given(cloud="grpcs://cloud.example:443", middle="grpc://near.example:8001")
    cascade = read(prepare(store, file, both).config).cascade
    assert cascade is not None
    assert isinstance(cascade.middle, LargerBackends)
    assert (cascade.middle.backends, cascade.middle.tls) == ({"near.example:8001": 1.0}, False)
    assert isinstance(cascade.larger, LargerBackends)
    assert cascade.larger.backends == {"cloud.example:443": 1.0}

    with pytest.raises(UsageError, match="no address") as refused:
        prepare(store, file, dataclasses.replace(both, middle="mqtts://broker.example:8883"))
    assert refused.value.problem.field == "--middle"
    before = put(store, tmp_path / "older", name, "cascade", cascade=json.dumps({"threshold": 0.5}))
    store.write_state(name, {"revision": {"digest": digest, "precision": "int8", "cascade": before}})
    with pytest.raises(UsageError, match="another model between") as refused:
        prepare(store, file, both)
    assert refused.value.problem.fix == f"still build {file}"
