"""Steps of a gateway without a model, as an artifact: what is in it, what it says, and what does not become one."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support.artifacts import context
from tests.support.source_folders import pinned, tokenizer_data, write_bert_folder

from stillhouse.digests import file_digest
from stillhouse.errors import SourceError, SpecError, StillhouseError, UnsafeSource
from stillhouse.inference.preprocess.chain import CHAIN_FILE, read_chain
from stillhouse.passes.sources.steps import PackFacts, PackSteps, PackStepsConfig

TEXT = {"kind": "tokenise", "maxLength": 8}
WINDOW = {"kind": "window", "length": 4, "hop": 2}
PYTHON = {
    "kind": "python",
    "function": "nobody.has.it:features",
    "inputs": [{"name": "WINDOWS", "datatype": "FP32", "shape": [-1, -1, 4, -1]}],
    "outputs": [{"name": "ENERGY", "datatype": "FP32", "shape": [-1, 3]}],
}


def packed(work: Path, steps: list[dict[str, Any]], source: Path | None = None) -> tuple[PackFacts, Path]:
    work.mkdir(exist_ok=True)
    ctx = dataclasses.replace(context(work), source=source)
    config = {"chain": {"version": 1, "steps": steps}, "digest": pinned(source) if source else None}
    return PackSteps().run(PackStepsConfig.model_validate(config), {}, ctx), ctx.out


def test_a_tokenizer_is_all_that_comes_of_a_model(tmp_path: Path) -> None:
    source = write_bert_folder(tmp_path / "model")
    facts, out = packed(tmp_path / "work", [TEXT], source)
    assert sorted(each.name for each in out.iterdir()) == [CHAIN_FILE, "tokenizer.json"]
    assert facts.files == {"tokenizer.json": file_digest(source / "tokenizer.json")}
    assert [each["name"] for each in facts.inputs] == ["TEXT"]
    assert [each["name"] for each in facts.outputs] == ["input_ids", "attention_mask"]
    chain = read_chain(out)
    assert chain is not None and chain.digest == facts.chain
    (tmp_path / "alone").mkdir()
    shutil.copy(source / "tokenizer.json", tmp_path / "alone")
    assert packed(tmp_path / "other", [TEXT], tmp_path / "alone")[0] == facts, "weights are no part of it"


def test_numbers_need_no_source_and_code_is_taken_at_its_word(tmp_path: Path) -> None:
    facts, out = packed(tmp_path / "work", [WINDOW, PYTHON])
    assert [each.name for each in out.iterdir()] == [CHAIN_FILE]
    assert (facts.files, [each["name"] for each in facts.outputs]) == ({}, ["ENERGY"])
    with pytest.raises(UnsafeSource, match="not allowed"):
        read_chain(out)


@pytest.mark.parametrize(
    ("steps", "files", "kind", "field"),
    [
        ([TEXT, {"kind": "normalise", "mean": [0.0], "std": [1.0], "input": "TEXT"}], {}, SpecError, "steps[1].TEXT"),
        ([{**WINDOW, "hop": 0}], {}, SpecError, "steps[0].hop"),
        ([TEXT], {"config.json": "{}"}, SourceError, "source.uri"),
        ([TEXT], {"tokenizer.json": "{}"}, SourceError, "source.uri"),
        ([TEXT], {"tokenizer_config.json": json.dumps({"auto_map": {"x": "y"}})}, UnsafeSource, "auto_map"),
    ],
    ids=["types", "a field", "no tokenizer", "a broken one", "code"],
)
def test_what_would_not_run_is_no_artifact(
    steps: list[dict[str, Any]], files: dict[str, str], kind: type[StillhouseError], field: str, tmp_path: Path
) -> None:
    source = tmp_path / "model"
    source.mkdir()
    if "config.json" not in files:
        (source / "tokenizer.json").write_text(json.dumps(tokenizer_data()))
    for name, text in files.items():
        (source / name).write_text(text)
    with pytest.raises(kind) as refused:
        packed(tmp_path / "work", steps, source if any(each["kind"] == "tokenise" for each in steps) else None)
    assert field in refused.value.problem.field
