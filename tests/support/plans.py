"""Plans of the specs that tests know, in an environment made up for them; and specs at random."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from tests.support.api_objects import GONE, complete, edited

from stillhouse.api.load import parse
from stillhouse.api.model import DistilledModel
from stillhouse.planning.build import build_plan
from stillhouse.planning.manifest import PASSES
from stillhouse.planning.plan import Environment, Pin, Plan
from stillhouse.planning.request import factories, is_model, uris

__all__ = ["environment", "ids", "keys", "models", "onnx_plan", "plan_of"]

HARDWARE = {"cpu": "Example 9000", "isa": ["avx2", "avx512f"], "cpus": 2}


def pin_of(name: str) -> str:
    """Return a digest that stands for what a URI points to."""
    return "sha256:" + hashlib.sha256(name.encode()).hexdigest()


def ids(plan: Plan) -> list[str]:
    """Return the steps' names, in their order."""
    return [step.id for step in plan.steps]


def environment(model: DistilledModel, **changes: Any) -> Environment:
    """Return an environment in which every URI and factory of the model is pinned."""
    pins = {}
    for field, uri in uris(model.spec).items():
        model_there = is_model(field)
        info: Mapping[str, Any] = (
            {"format": "safetensors", "hiddenSize": 384, "layers": 6, "vocabularySize": 30522}
            if model_there
            else {"rows": 20_000}
        )
        pins[uri] = Pin(pin_of(uri), 90_000_000 if model_there else 4_000_000, info)
    for factory in factories(model.spec).values():
        pins[f"factory:{factory.target}"] = Pin(pin_of(factory.target))
    toolchain = {need: "1.0" for entry in PASSES.values() for need in entry.needs}
    base = Environment(pins=pins, toolchain=toolchain, hardware=HARDWARE, cpus=2.0)
    return dataclasses.replace(base, **changes)


def plan_of(base: str = "text", edits: Mapping[str, Any] | None = None, **changes: Any) -> Plan:
    """Return the plan of one of the complete specs with some fields (and parts of the environment) changed."""
    model = parse(edited(complete(base), edits or {}))
    return build_plan(model, environment(model, **changes))


def onnx_plan(edits: Mapping[str, Any] | None = None, **changes: Any) -> Plan:
    """Return the plan of the complete text spec with an ONNX source; without edits, of one that an ONNX source can meet."""
    possible = {"spec.distill": GONE, "spec.compress": {"precision": "int8"}}
    model = parse(edited(complete("text"), possible if edits is None else edits))
    env = environment(model, **changes)
    pins = {**env.pins, "models:minilm": Pin(pin_of("onnx"), 1, {"format": "onnx"})}
    return build_plan(model, dataclasses.replace(env, pins=pins))


def keys(plan: Plan) -> dict[str, str]:
    """Return step id → key."""
    return {step.id: step.key for step in plan.steps}


def _optional(field: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.none().map(lambda _: {}) | values.map(lambda value: {field: value})


def _merged(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda found: {name: value for part in found for name, value in part.items()})


_LETTERS = st.text("abcdefg", min_size=1, max_size=4)
_DATA = _merged(
    _LETTERS.map(lambda name: {"uri": f"data:{name}"}),
    _optional("maxRows", st.integers(1, 10**6)),
    _optional("columns", _merged(_optional("text", _LETTERS), _optional("label", _LETTERS))),
)
_DECIMALS = st.sampled_from(["0.001", "0.5", "1", "2.25"])


@st.composite
def _losses(draw: st.DrawFn, task: str) -> list[dict[str, Any]]:
    kinds = ["embedding", "similarity", "hidden"] if task == "sentence-embedding" else ["logits", "hard", "hidden"]
    found = []
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3)):
        loss: dict[str, Any] = {"kind": kind, "weight": draw(_DECIMALS)}
        if kind in {"logits", "similarity"} and draw(st.booleans()):
            loss["temperature"] = draw(_DECIMALS)
        if kind == "hidden" and draw(st.booleans()):
            loss["layer"] = draw(st.integers(1, 12))
        found.append(loss)
    return found


_SHAPE = _merged(
    _optional("hiddenLayers", st.integers(1, 6)),  # the teacher of `environment` has 6: init layers and svd make no more
    _optional("intermediateSize", st.integers(8, 64)),
    st.sampled_from([{}, {"init": "layers"}, {"hiddenSize": 64, "init": "svd"}, {"hiddenSize": 96, "attentionHeads": 3}]),
)
_STUDENT = _merged(
    st.one_of(
        _SHAPE,
        _LETTERS.map(lambda name: {"uri": f"models:{name}"}),
        _LETTERS.map(lambda name: {"factory": {"target": f"nets:{name}", "arguments": {"width": 3}}}),
    ),
    _optional("vocabulary", st.sampled_from([{}, {"maxSize": 1000}])),
)
_METRICS = {
    "sentence-embedding": [{"name": "mrr@10", "min": "90%", "of": "teacher"}, {"name": "cosine", "min": "0.5"}],
    "text-classification": [{"name": "macro-f1", "min": "0.5"}, {"name": "log-loss", "max": "2"}],
}


@st.composite
def models(draw: st.DrawFn) -> DistilledModel:
    """Return any valid resource (of what this version implements) that fits the teacher of `environment`."""
    task = draw(st.sampled_from(["sentence-embedding", "text-classification", "image-classification"]))
    source: dict[str, Any] = {"uri": "models:teacher", "task": task, **draw(_optional("maxLength", st.integers(8, 512)))}
    if task == "image-classification":
        source["image"] = {"height": 8, "width": 8, "channels": 1, **draw(_optional("mean", st.just(["0.5"])))}
    if task != "sentence-embedding":
        source |= draw(_optional("labels", st.just(["no", "yes"])))
    source |= draw(_optional("factory", st.just({"target": "nets:teacher"})))
    spec: dict[str, Any] = {"source": source}
    if draw(st.booleans()):
        stages = [
            {
                "losses": draw(_losses(task)),
                "epochs": draw(st.integers(1, 9)),
                **({"name": f"s{n}"} if draw(st.booleans()) else {}),
            }
            for n in range(draw(st.integers(1, 3)))
        ]
        spec["distill"] = {"student": draw(_STUDENT), "data": draw(_DATA), "stages": stages}
        spec["distill"] |= draw(_merged(_optional("validation", _DATA), _optional("seed", st.integers(0, 99))))
        kinds = ["flip", "crop", "rotate", "noise"] if task == "image-classification" else ["synonym", "mask", "swap", "delete"]
        changes = st.lists(st.sampled_from(kinds).map(lambda kind: {"kind": kind}), min_size=1, max_size=3)
        spec["distill"] |= draw(
            _merged(
                _optional("unlabelled", _DATA),
                _optional("deduplicate", st.sampled_from([{}, {"threshold": "0.75"}, {"heldOut": False}])),
                _optional("balance", st.sampled_from([{}, {"to": "50%"}])),
                _optional("augment", changes.map(lambda found: {"operations": found, "labels": "keep"})),
                _optional("report", st.booleans()),
            )
        )
    spec |= draw(
        _optional(
            "compress",
            _merged(
                st.sampled_from(["auto", "fp32", "int8", "int4"]).map(lambda precision: {"precision": precision}),
                _optional("calibration", _DATA),
                _optional("keepFp32", st.integers(1, 20)),
            ),
        )
    )
    if draw(st.booleans()):
        metrics = _METRICS["sentence-embedding" if task == "sentence-embedding" else "text-classification"]
        spec["gate"] = {"data": draw(_DATA), "metrics": draw(st.lists(st.sampled_from(metrics), max_size=2))}
        spec["gate"] |= draw(
            _merged(
                _optional("maxLatencyP50", st.just("5ms")),
                _optional("minThroughput", _DECIMALS),
                _optional("maxSize", st.just("1Mi")),
            )
        )
    if task == "sentence-embedding":
        spec |= draw(_optional("index", _DATA.map(lambda data: {"data": data})))
    spec |= draw(
        _optional(
            "serve",
            _merged(
                _optional("instances", st.integers(1, 4)),
                _optional("responseCache", st.booleans()),
                _optional("resources", st.just({"limits": {"cpu": "500m", "memory": "1Gi"}})),
                _optional("queue", st.just({"timeout": "2s"})),
            ),
        )
    )
    return parse(
        {"apiVersion": "stillhouse.io/v1alpha1", "kind": "DistilledModel", "metadata": {"name": draw(_LETTERS)}, "spec": spec}
    )
