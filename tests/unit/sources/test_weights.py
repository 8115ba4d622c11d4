from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tests.support.artifacts import context
from tests.support.source_folders import raised, raw_safetensors

from stillhouse.errors import SourceError, UnsafeSource
from stillhouse.passes.sources.folder import SourceFolder
from stillhouse.passes.sources.model import ImportModel, ImportModelConfig
from stillhouse.passes.sources.weights import gather, read_header

GOOD = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def written(folder: Path, content: bytes) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(content)
    return path


def test_what_the_library_writes_is_read_the_same(tmp_path: Path) -> None:
    tensors = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.array([True, False, True]),
        "c": np.zeros((0, 4), np.int64),
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"made": "here"})
    header = read_header(tmp_path / "model.safetensors")
    assert {name: tensor.shape for name, tensor in header.tensors.items()} == {
        name: value.shape for name, value in tensors.items()
    }
    joined = gather(SourceFolder.open(tmp_path), tmp_path / "out.safetensors")
    assert set(joined) == set(tensors)
    again = load_file(tmp_path / "out.safetensors")
    for name, value in tensors.items():
        np.testing.assert_array_equal(again[name], value)
        assert again[name].dtype == value.dtype


def test_shards_become_one_file(tmp_path: Path) -> None:
    parts = {"model-1.safetensors": {"x": np.ones(3, np.float32)}, "model-2.safetensors": {"y": np.full((2, 2), 7, np.float16)}}
    for name, tensors in parts.items():
        save_file(tensors, tmp_path / name)
    index = {"weight_map": {key: name for name, tensors in parts.items() for key in tensors}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    gather(SourceFolder.open(tmp_path), tmp_path / "out.safetensors")
    with safe_open(tmp_path / "out.safetensors", "np") as file:
        assert sorted(file.keys()) == ["x", "y"]
        np.testing.assert_array_equal(file.get_tensor("y"), parts["model-2.safetensors"]["y"])
    (tmp_path / "model-2.safetensors").unlink()
    assert "model-2.safetensors is missing" in raised(SourceError, lambda: gather(SourceFolder.open(tmp_path), tmp_path / "o"))


@pytest.mark.parametrize(("dtype", "item"), [("F16", "007c"), ("F16", "01fe"), ("BF16", "80ff"), ("BF16", "c07f"),
                                             ("F32", "0000807f"), ("F32", "0000c0ff"), ("F64", "000000000000f07f"),
                                             ("F64", "010000000000f8ff")])  # fmt: skip
def test_numbers_that_are_not_finite_are_noted_while_they_are_copied(dtype: str, item: str, tmp_path: Path) -> None:
    bad = bytes.fromhex(item)
    count = (3 << 20) // len(bad)  # several blocks
    data = bytes(len(bad)) * (count - 1) + bad
    header = {
        "bad": {"dtype": dtype, "shape": [count], "data_offsets": [0, len(data)]},
        "good": {"dtype": dtype, "shape": [2], "data_offsets": [len(data), len(data) + 2 * len(bad)]},
        "numbers": {"dtype": "I8", "shape": [len(bad)], "data_offsets": [len(data) + 2 * len(bad), len(data) + 3 * len(bad)]},
    }
    written(tmp_path, raw_safetensors(header, data + bytes(2 * len(bad)) + bad))
    joined = gather(SourceFolder.open(tmp_path), tmp_path / "out.safetensors")
    assert {name: tensor.finite for name, tensor in joined.items()} == {"bad": False, "good": True, "numbers": True}
    with (tmp_path / "out.safetensors").open("rb") as file:
        assert file.read().count(bad) >= 2, "the bytes are copied as they are"


def test_largest_numbers_are_finite(tmp_path: Path) -> None:
    kinds = (np.float16, np.float32, np.float64)
    save_file(
        {kind.__name__: np.array([np.finfo(kind).max, np.finfo(kind).min], kind) for kind in kinds}, tmp_path / "m.safetensors"
    )
    joined = gather(SourceFolder.open(tmp_path), tmp_path / "out.safetensors")
    assert all(tensor.finite for tensor in joined.values())


def test_the_check_comes_before_anything_is_written(tmp_path: Path) -> None:
    written(tmp_path, raw_safetensors(GOOD, b"12345678"))

    def refuse(tensors: object) -> None:
        assert tensors == read_header(tmp_path / "model.safetensors").tensors
        raise SourceError("no")

    with pytest.raises(SourceError):
        gather(SourceFolder.open(tmp_path), tmp_path / "out.safetensors", None, refuse)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "model.bin", 3])
def test_shard_names_that_leave_the_folder(name: Any, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    raised(UnsafeSource, lambda: gather(SourceFolder.open(tmp_path), tmp_path / "o"))


def test_index_that_promises_what_the_shard_lacks(tmp_path: Path) -> None:
    save_file({"x": np.ones(3, np.float32)}, tmp_path / "s.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"y": "s.safetensors"}}))
    assert "no tensor y" in raised(SourceError, lambda: gather(SourceFolder.open(tmp_path), tmp_path / "o"))


def test_truncation_is_seen_at_every_length(tmp_path: Path) -> None:
    whole = raw_safetensors(GOOD, b"12345678")
    for length in range(len(whole)):
        raised(SourceError, lambda length=length: read_header(written(tmp_path, whole[:length])))  # type: ignore[misc]
    assert read_header(written(tmp_path, whole)).tensors["a"].end == 8
    raised(SourceError, lambda: read_header(written(tmp_path, whole + b"x")))


def entry(**changes: Any) -> dict[str, Any]:
    return {"a": {**GOOD["a"], **changes}}


@pytest.mark.parametrize(
    "header",
    [
        entry(dtype="F33"),
        entry(shape=[3]),
        entry(shape=[-2]),
        entry(shape=[2.0]),
        entry(shape=[True, 2]),
        entry(shape="2"),
        entry(data_offsets=[0, 9]),
        entry(data_offsets=[4, 12]),
        entry(data_offsets=[8, 0]),
        entry(data_offsets=[0]),
        {"a": GOOD["a"], "b": GOOD["a"]},
        {"a": 3},
        [],
        b"{" + b'"a":{' * 5000,
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        b"\xff\xfe",
    ],
)
def test_headers_that_contradict_themselves(header: Any, tmp_path: Path) -> None:
    raised(SourceError, lambda: read_header(written(tmp_path, raw_safetensors(header, b"12345678"))))


def test_header_length_beyond_the_file_or_the_format(tmp_path: Path) -> None:
    for length in (10_000, 100_000_001, 1 << 63, (1 << 64) - 1):
        raised(
            SourceError, lambda length=length: read_header(written(tmp_path, raw_safetensors(GOOD, b"12345678", length=length)))
        )  # type: ignore[misc]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("task", ["sentence-embedding", "image-classification"])
def test_a_pickle_is_named_before_what_is_wrong_beside_it(name: str, task: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(pickle.dumps({"weight": [1.0] * 20}, protocol=4))
    ctx = dataclasses.replace(context(tmp_path / "work"), source=tmp_path)
    config = ImportModelConfig.model_validate({"digest": "", "task": task})
    text = raised(UnsafeSource, lambda: ImportModel().run(config, {}, ctx))
    assert "pickle" in text
    assert name in text


def test_pickles_under_another_name(tmp_path: Path) -> None:
    for protocol in (2, 3, 4, 5):
        content = pickle.dumps({"weight": [1.0] * 20}, protocol=protocol)
        assert "pickle" in raised(UnsafeSource, lambda content=content: read_header(written(tmp_path, content)))  # type: ignore[misc]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    raised(UnsafeSource, lambda: read_header(written(tmp_path, buffer.getvalue())))


def test_header_whose_length_begins_like_a_pickle_is_no_pickle(tmp_path: Path) -> None:
    text = json.dumps(GOOD).encode()
    text += b" " * (0x0280 - len(text))  # length bytes 80 02: as pickle protocol 2
    content = struct.pack("<Q", len(text)) + text + b"12345678"
    assert content[:2] == b"\x80\x02"
    assert list(read_header(written(tmp_path, content)).tensors) == ["a"]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "weights.pkl", "model.pth"])
def test_pickle_is_never_an_alternative(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert "safe_serialization=True" in raised(UnsafeSource, lambda: gather(SourceFolder.open(tmp_path), tmp_path / "o"))


def test_missing_weights_list_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert "config.json" in raised(SourceError, lambda: gather(SourceFolder.open(tmp_path), tmp_path / "o"))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_source_error_or_a_header(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = written(tmp_path_factory.mktemp("bytes"), content)
    with contextlib.suppress(SourceError):
        read_header(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "I8", "BOOL", "BF16", "X"]) | json_values,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(-1, 40), min_size=2, max_size=2) | json_values,
    }
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(max_size=3), entries | json_values, max_size=3), st.integers(0, 40))
def test_any_json_header_is_refused_or_agrees_with_the_library(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, Any], size: int
) -> None:
    path = written(tmp_path_factory.mktemp("json"), raw_safetensors(json.dumps(header).encode(), bytes(size)))
    try:
        ours = read_header(path)
    except SourceError:
        return
    with safe_open(path, "np") as file:  # what passes here must be readable there
        assert set(file.keys()) == set(ours.tensors)
