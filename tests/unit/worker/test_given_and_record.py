"""What a worker is given and what it leaves."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.api.revision import ModelRevision
from stillhouse.entrypoints.local.workspace import ServedBy
from stillhouse.entrypoints.worker.given import MODEL_VARIABLE, SOURCES_VARIABLE, Needed, localized, read
from stillhouse.entrypoints.worker.record import LIMIT, candidates, lineage, message, record
from stillhouse.errors import SourceError, UsageError
from stillhouse.planning.packed import PACKED, pack, unpack
from stillhouse.resources.jobs import job
from stillhouse.resources.wanted import Building, ClusterSettings, Owner, Serving

CLAIMS = Path("/claims")


def test_a_worker_reads_what_the_operator_writes() -> None:
    spec = {"source": {"uri": "models:m", "task": "sentence-embedding"}, "index": {"data": {"uri": "pvc://c/docs.jsonl"}}}
    bound = {"models:m": "pvc://c/models/m", "pvc://c/docs.jsonl": "pvc://c/docs.jsonl"}
    serving = Serving(serve={"cpus": 0.5})
    owner = Owner("m", "default", "uid")
    building = Building(needed={"namespace": "default", "models": ["m"], "digests": ["sha256:ab"]})
    made = job(owner, "f" * 64, "resolve", spec, bound, ClusterSettings(), serving, building, "again")
    environment = {each["name"]: each["value"] for each in made["spec"]["template"]["spec"]["containers"][0]["env"]}
    found = read(environment, CLAIMS)
    assert found.rebuild == "again"
    assert found.needed == Needed("default", frozenset({"m"}), frozenset({"sha256:ab"}))
    assert found.needed.names("sha256:abc")
    assert not found.needed.names("sha256:ac")
    assert found.server == ServedBy(ClusterSettings().serve_image, 0.5)
    assert found.sources == {"models:m": "file:///claims/c/models/m", "pvc://c/docs.jsonl": "file:///claims/c/docs.jsonl"}
    assert found.model["spec"]["index"]["data"]["uri"] == "file:///claims/c/docs.jsonl"
    assert found.model["spec"]["source"]["uri"] == "models:m", "a name stays, and is bound"


@pytest.mark.parametrize(
    ("target", "where"),
    [
        ("pvc://c/a b/ä", "file:///claims/c/a%20b/%C3%A4"),
        ("pvc://c", "file:///claims/c"),
        ("pvc://c/", "file:///claims/c"),
        ("pvc://c//x/./y", "file:///claims/c/x/y"),
        ("hf://owner/model@main", "hf://owner/model@main"),
    ],
)
def test_claims_are_folders(target: str, where: str) -> None:
    assert localized("models:m", target, CLAIMS) == where


@pytest.mark.parametrize("target", ["pvc://c/../other/x", "pvc:///x", "pvc://../x", "pvc://./x", "pvc://c/a/../../b"])
def test_a_path_does_not_lead_out_of_its_claim(target: str) -> None:
    with pytest.raises(SourceError, match="leads out of its claim"):
        localized("models:m", target, CLAIMS)


@pytest.mark.parametrize("value", [None, "", "{", "[]", "7"])
def test_another_versions_environment_is_told(value: str | None) -> None:
    environment = {MODEL_VARIABLE: "{}"} if value is None else {MODEL_VARIABLE: "{}", SOURCES_VARIABLE: value}
    with pytest.raises(UsageError, match=SOURCES_VARIABLE):
        read(environment, CLAIMS)


def hashed(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


REVISION: dict[str, Any] = {
    "digest": "sha256:" + "a" * 64,
    "index": None,
    "precision": "int8",
    "size": 5_600_000,
    "figures": {"mrr@10": {"estimate": 0.5, "low": 0.4, "high": None},
                "latencyP99": {"estimate": 0.004, "low": 0.003, "high": 0.005}},
    "candidates": [
        {"precision": "int8", "outcome": "failed", "digest": None, "size": 5, "checks": [
            {"outcome": "passed", "text": "fine"}, {"outcome": "failed", "text": "mrr@10 0.4, at least 0.5 wanted"}]},
        {"precision": "fp32", "outcome": "passed", "digest": "sha256:" + "b" * 64, "size": 9, "checks": []},
        {"precision": "later"},
    ],
    "lineage": {
        "sources": [{"name": "source", "uri": "models:minilm", "digest": "sha256:" + "c" * 64},
                    {"name": "calibration", "uri": "data:" + "x" * 900, "digest": "sha256:" + "d" * 64}],
        "toolchain": [{"name": "torch", "value": "2.9.1"}],
    },
    "serve": {"maxBatchSize": 32, "maxQueueDelay": 0.001, "queueSize": 0, "queueTimeout": None, "instances": None, "threads": 2,
              "responseCache": False, "cpus": 0.5, "memory": 1 << 29},
}  # fmt: skip


def test_a_record_becomes_a_revision_that_the_api_takes() -> None:
    told = json.loads(message({"next": None, "record": record(REVISION, gated=True)}))
    spec = {name: value for name, value in told["record"].items() if value is not None}
    spec["serve"] = {name: value for name, value in spec["serve"].items() if value is not None}
    spec |= {"model": "m", "requestHash": "f" * 64, "outcome": "Accepted"}
    body = {"apiVersion": "stillhouse.io/v1alpha1", "kind": "ModelRevision", "metadata": {"name": "m-1"}, "spec": spec}
    made = ModelRevision.model_validate(body, by_alias=True, by_name=False).spec
    assert (made.precision, made.reason, made.serve.threads if made.serve else None) == ("int8", "GatePassed", 2)
    assert [each.outcome for each in made.candidates] == ["failed", "passed", "untried"]
    assert made.candidates[0].reason == "mrr@10 0.4, at least 0.5 wanted"
    assert made.lineage is not None
    assert [(each.name, each.digest[7]) for each in made.lineage.sources] == [("source", "c"), ("calibration", "d")]
    assert [(each.name, each.value) for each in made.lineage.toolchain] == [("torch", "2.9.1")]


def test_digests_of_the_lineage_outlast_its_uris_and_the_candidates() -> None:
    sources = [{"name": f"s{number}", "uri": hashed(-number) * 2, "digest": f"sha256:{hashed(number)}"} for number in range(16)]
    many = candidates(
        [
            {**REVISION["candidates"][0], "digest": hashed(each), "checks": [{"outcome": "failed", "text": hashed(each + 100)}]}
            for each in range(30)
        ]
    )
    whole = {**record({**REVISION, "lineage": {"sources": sources, "toolchain": []}}, gated=True), "candidates": many}
    content = message({"next": None, "record": whole})
    told = unpack(json.loads(content)[PACKED])
    assert len(content) <= LIMIT
    assert [each["digest"] for each in told["lineage"]["sources"]] == [each["digest"] for each in sources]
    assert "candidates" not in told


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 60), st.text(max_size=6000), st.integers(0, 400))
def test_a_message_fits_whatever_is_in_it(count: int, text: str, length: int) -> None:
    many = candidates([{**REVISION["candidates"][0], "checks": [{"outcome": "failed", "text": "ä" * length}]}] * count)
    content = message(
        {"stage": "gate", "next": None, "message": text, "record": {**record(REVISION, gated=True), "candidates": many}}
    )
    assert len(content) <= LIMIT
    told = json.loads(content)
    assert (told.get("record") or unpack(told[PACKED]))["digest"] == REVISION["digest"]


def test_a_usual_record_fits_with_all_that_is_in_it() -> None:
    parts = ("source", "data", "validation", "gate-data", "calibration", "index")
    sources = [
        {"name": part, "uri": f"data:docstrings-{part}", "digest": f"sha256:{hashed(each)}"} for each, part in enumerate(parts)
    ]
    missed = "mrr@10 0.4123 [0.3812, 0.4512] (n=400), at least 0.5000 wanted: missed by 0.1188 (23.8% of the limit)"
    tried = [
        {"precision": each, "outcome": "failed", "digest": f"sha256:{hashed(len(each))}", "size": 5_600_123,
         "checks": [{"outcome": "failed", "text": missed}]}
        for each in ("int8", "int8-mixed", "fp32")
    ]  # fmt: skip
    made_of = {"sources": sources, "toolchain": [{"name": f"package-{each}", "value": f"2.{each}.1"} for each in range(8)]}
    whole = record({**REVISION, "lineage": made_of, "candidates": tried}, gated=True)
    content = message({"stage": "gate", "next": None, "planHash": "f" * 64, "record": whole})
    assert len(content) <= LIMIT
    assert unpack(json.loads(content)[PACKED]) == json.loads(json.dumps(whole))


def test_of_a_long_text_beginning_and_end_stay() -> None:
    text = "spec.gate: no candidate met every limit\n" + "\x1b[31mx\x1b[0m\x07\t" * 3000 + "\n  fix: move the limit"
    for parts in ({}, {"record": {"lineage": lineage(REVISION["lineage"])}}):
        content = message({"stage": "gate", "reason": "GateFailed", "message": text, **parts})
        told = json.loads(content)
        assert len(content) <= LIMIT
        assert told["message"].startswith("spec.gate: no candidate met every limit\nx x x")
        assert told["message"].endswith("fix: move the limit")
        assert len(told["message"]) > 700, "control characters go before it is shortened"
        if parts:
            assert unpack(told[PACKED])["lineage"]["sources"][0]["digest"] == "sha256:" + "c" * 64


@pytest.mark.parametrize("text", ["", "~", "c-n", pack({"a": 1})[:-3], pack({"a": "x" * (1 << 17)}), pack([1])])  # type: ignore[arg-type]
def test_what_is_no_packed_record_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(text)
