"""Declared steps: what they compute, what they refuse, and that a chain knows its types before it runs."""

from __future__ import annotations

import io
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.tiny_model import write_tiny_model

from stillhouse.errors import DataError, SourceError, SpecError, UnsafeSource
from stillhouse.inference.engine import Engine
from stillhouse.inference.image import decode_image, normalise
from stillhouse.inference.preprocess.base import Around
from stillhouse.inference.preprocess.chain import CHAIN_FILE, Chain, load_chain, read_chain
from stillhouse.inference.preprocess.manifest import STEPS, load_step
from stillhouse.inference.signature import ImageSpec
from stillhouse.inference.text import TextEncoder

HERE = "tests.support.step_functions"
FLOAT = {"name": "IN", "datatype": "FP32", "shape": [-1, 2]}
BAD = {**FLOAT, "datatype": "F"}
WINDOW = {"kind": "window", "length": 4, "hop": 1}
OUT = {"name": "OUT", "datatype": "FP32", "shape": [-1, 2]}


def chain(*steps: dict[str, Any], folder: Path = Path("/nowhere"), allowed: tuple[str, ...] = (), inputs: Any = ()) -> Chain:
    return load_chain({"version": 1, "inputs": list(inputs), "steps": list(steps)}, Around(folder, frozenset(allowed)))


def texts(*values: str) -> np.ndarray:
    return np.array([[value.encode()] for value in values], dtype=object)


def png(width: int, height: int) -> bytes:
    from PIL import Image

    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_every_kind_of_the_manifest_is_what_it_says() -> None:
    for kind, entry in STEPS.items():
        made = load_step(kind)
        assert (made.kind, made.version) == (kind, entry.version)


def test_tokenising_gives_the_integers_of_the_backend(tmp_path: Path) -> None:
    signature = write_tiny_model(tmp_path, max_length=8)
    given = texts("open the file", "", "read " * 30)
    encoded = TextEncoder(tmp_path / "tokenizer.json", 8).encode([value.decode() for value in given.ravel()])
    wanted = Engine(tmp_path).run_texts([value.decode() for value in given.ravel()])
    for padding, length in (("longest", 8), ("power", 8), ("full", 8)):
        steps = chain({"kind": "tokenise", "maxLength": 8, "padding": padding, "datatype": "INT32"}, folder=tmp_path)
        found = steps.run({"TEXT": given})
        assert [str(each) for each in steps.outputs] == [
            f"{name} INT32 [-1, {8 if padding == 'full' else -1}]" for name in signature.inputs
        ]
        assert found["input_ids"].shape == (3, length)
        assert found["input_ids"].dtype == np.int32
        for row, ids in enumerate(encoded.ids):
            assert found["input_ids"][row, : len(ids)].tolist() == ids
            assert found["attention_mask"][row].sum() == len(ids)
    assert len(wanted.values) == 3
    with pytest.raises(DataError, match=r"TEXT\[1\]"):
        steps.run({"TEXT": np.array([[b"a"], [b"\xff"]], dtype=object)})
    with pytest.raises(DataError, match="too long"):
        chain({"kind": "tokenise", "maxBytes": 4}, folder=tmp_path).run({"TEXT": texts("open the file")})
    with pytest.raises(UnsafeSource, match=r"steps\[0\].tokenizer"):
        chain({"kind": "tokenise", "tokenizer": "../tokenizer.json"}, folder=tmp_path)


def test_pictures_are_those_of_the_command_line_and_normalised_like_the_backends() -> None:
    spec = ImageSpec(6, 5, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    files = [png(20, 11), png(3, 9)]
    pixels = np.stack([decode_image(each, spec) for each in files])
    step = {"kind": "image", "height": 6, "width": 5}
    given = {"FILE": np.array(files, dtype=object)[:, None]}
    np.testing.assert_array_equal(chain(step).run(given)["IMAGE"], pixels)
    both = chain({**step, "mean": list(spec.mean), "std": list(spec.std)})
    np.testing.assert_array_equal(both.run(given)["IMAGE"], normalise(pixels, spec))
    assert [str(each) for each in both.outputs] == ["IMAGE FP32 [-1, 3, 6, 5]"]


def test_a_small_file_of_a_giant_picture_is_refused_before_it_is_unpacked() -> None:
    def part(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    side = 40_000
    head = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    bomb = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(bytes(1 << 20))) + part(b"IEND", b"")
    step = {"kind": "image", "height": 6, "width": 5, "maxPixels": 400, "maxBytes": 4096}
    for hostile, says in ((bomb, "IMAGE|FILE"), (png(30, 20), "too large"), (b"x" * 5000, "5000 bytes"), (b"GIF89a", "neither")):
        with pytest.raises(DataError, match=says) as caught:
            chain(step).run({"FILE": np.array([[png(3, 3)], [hostile]], dtype=object)})
        assert caught.value.problem.field == "FILE[1]"


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 3), st.integers(1, 12), st.integers(1, 15), st.booleans())
def test_windows_are_the_samples_that_slices_give(
    rows: int, time: int, channels: int, length: int, hop: int, merge: bool
) -> None:
    signal = np.arange(rows * time * channels, dtype=np.int16).reshape(rows, time, channels)
    declared = {"name": "SIGNAL", "datatype": "INT16", "shape": [-1, -1, channels]}
    steps = chain({"kind": "window", "length": length, "hop": hop, "merge": merge}, inputs=[declared])
    starts = range(0, time - length + 1, hop)
    if not starts:
        with pytest.raises(DataError, match="no window"):
            steps.run({"SIGNAL": signal})
        return
    wanted = np.stack([signal[:, start : start + length] for start in starts], axis=1)
    found = steps.run({"SIGNAL": signal})["WINDOWS"]
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, wanted.reshape(-1, length, channels) if merge else wanted)
    steps.outputs[0].check(found)
    fixed = chain({"kind": "window", "length": length, "hop": hop, "merge": merge}, inputs=[{**declared, "shape": signal.shape}])
    assert fixed.outputs[0].shape == found.shape, "what is told without running is what running gives"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=2), min_size=1, max_size=33))
def test_statistics_against_exact_sums(window: list[list[float]]) -> None:
    from fractions import Fraction

    steps = chain(
        {
            "kind": "statistics", "names": ["mean", "std", "min", "max", "range", "rms", "median"], "quantiles": [0.0, 0.25, 1.0],
            "rate": 100, "bands": [[0, 20], [20, 50]],
        }
    )  # fmt: skip
    values = np.array([window], dtype=np.float32)
    (found,) = steps.run({"WINDOWS": values})["FEATURES"].reshape(1, 12, 2)
    scale = max(1.0, float(np.abs(values).max()))
    for channel in range(2):
        exact = [Fraction(float(each)) for each in values[0, :, channel]]
        mean = sum(exact) / len(exact)
        square = sum(each * each for each in exact) / len(exact)
        std = float(sum((each - mean) ** 2 for each in exact) / len(exact)) ** 0.5
        low, high = float(min(exact)), float(max(exact))
        wanted = [float(mean), std, low, high, high - low, float(square) ** 0.5]
        np.testing.assert_allclose(found[:6, channel], wanted, rtol=2e-6, atol=1e-6 * scale)
        assert found[6, channel] == pytest.approx(float(np.median(values[0, :, channel])), rel=1e-6, abs=1e-6 * scale)
        assert (found[7, channel], found[9, channel]) == (np.float32(low), np.float32(high))
        assert found[10:, channel].sum() == pytest.approx(float(square), rel=1e-5, abs=1e-6), "Parseval"


def test_a_tone_is_in_its_band() -> None:
    time = np.arange(200) / 100
    signal = (2 * np.sin(2 * np.pi * 10 * time)).astype(np.float32).reshape(1, 200, 1)
    steps = chain({"kind": "statistics", "names": [], "rate": 100, "bands": [[0, 8], [8, 12], [12, 50]]})
    np.testing.assert_allclose(steps.run({"WINDOWS": signal})["FEATURES"], [[0, 2, 0]], atol=1e-6)


def test_values_that_are_not_finite_are_refused_with_their_row() -> None:
    values = np.zeros((2, 4, 1), np.float32)
    values[1, 2] = np.nan
    with pytest.raises(DataError, match=r"WINDOWS\[1\]"):
        chain({"kind": "statistics"}).run({"WINDOWS": values})
    with pytest.raises(DataError, match=r"FEATURES\[1\]"):
        chain({"kind": "normalise", "mean": [0], "std": [1], "clip": 3}).run({"FEATURES": values.reshape(2, 4)})
    with pytest.raises(DataError, match="FEATURES"):
        chain({"kind": "statistics", "rate": 10, "bands": [[0, 5]]}).run({"WINDOWS": np.full((1, 4, 1), 3e38, np.float32)})


def test_sensor_counts_to_features_in_one_chain_that_tells_its_shapes() -> None:
    steps = chain(
        {"kind": "window", "length": 4, "hop": 2},
        {"kind": "statistics", "names": ["min", "max"]},
        {"kind": "normalise", "mean": [1, 1, 2, 2], "std": [2, 2, 4, 4], "clip": 1.5},
        inputs=[{"name": "SIGNAL", "datatype": "UINT16", "shape": [-1, 10, 2]}],
    )
    assert [str(each) for each in steps.inputs] == ["SIGNAL UINT16 [-1, 10, 2]"]
    assert [str(each) for each in steps.outputs] == ["FEATURES FP32 [-1, 4, 4]"]
    signal = np.arange(20, dtype=np.uint16).reshape(1, 10, 2)
    found = steps.run({"SIGNAL": signal})["FEATURES"]
    np.testing.assert_array_equal(found[0, 0], np.float32([(0 - 1) / 2, 0, 1.0, 1.25]))
    np.testing.assert_array_equal(found[0, 3], np.float32([1.5, 1.5, 1.5, 1.5]))
    with pytest.raises(DataError, match="SIGNAL"):
        steps.run({"SIGNAL": signal.astype(np.int64)})
    with pytest.raises(DataError, match="not the tensors"):
        steps.run({"SIGNAL": signal, "MORE": signal})


@pytest.mark.parametrize(
    ("steps", "field"),
    [
        ([{"kind": "magic"}], "steps[0].kind"),
        ([{"kind": "window", "length": 4}], "steps[0].hop"),
        ([{"kind": "window", "length": "4", "hop": 1}], "steps[0].length"),
        ([{"kind": "window", "length": True, "hop": 1}], "steps[0].length"),
        ([{"kind": "window", "length": 0, "hop": 1}], "steps[0].length"),
        ([{"kind": "window", "length": 4, "hop": 1, "Hop": 1}], "steps[0].Hop"),
        ([{"kind": "statistics", "names": ["mean", "mode"]}], "steps[0].names[1]"),
        ([{"kind": "statistics", "quantiles": [1.5]}], "steps[0].quantiles"),
        ([{"kind": "statistics", "bands": [[0, 5]]}], "steps[0].rate"),
        ([{"kind": "statistics", "rate": 10, "bands": [[0, 6]]}], "steps[0].bands"),
        ([{"kind": "statistics", "rate": float("nan")}], "steps[0].rate"),
        ([{"kind": "normalise", "mean": [0], "std": [0]}], "steps[0].std"),
        ([{"kind": "normalise", "mean": [0, 1], "std": [1]}], "steps[0].std"),
        ([{"kind": "image", "height": 4, "width": 4, "mean": [0.5]}], "steps[0].mean"),
        ([{"kind": "image", "height": 4, "width": 4}, {"kind": "statistics", "input": "FILE"}], "steps[1].FILE"),
        ([WINDOW, {"kind": "window", "length": 2, "hop": 1, "input": "WINDOWS"}], "steps[1].WINDOWS"),
        ([{"kind": "statistics"}, {"kind": "normalise", "mean": [0, 0], "std": [1, 1], "input": "WINDOWS"}], "steps[1].WINDOWS"),
        ([{"kind": "python", "function": "os", "inputs": [FLOAT], "outputs": [OUT]}], "steps[0].function"),
        ([{"kind": "python", "function": "a:b", "inputs": [BAD], "outputs": [OUT]}], "steps[0].inputs[0].IN.datatype"),
        ([], "steps"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_when_it_is_loaded(steps: list[dict[str, Any]], field: str) -> None:
    with pytest.raises(SpecError) as caught:
        chain(*steps)
    assert caught.value.problem.field == field


def python(function: str, **more: Any) -> dict[str, Any]:
    return {"kind": "python", "function": function, "inputs": [FLOAT], "outputs": [OUT], **more}


def test_a_function_of_an_allowed_package() -> None:
    given = np.ones((3, 2), np.float32)
    found = chain(python(f"{HERE}:doubled", options={"times": 3}), allowed=(HERE,)).run({"IN": given})
    np.testing.assert_array_equal(found["OUT"], given * 3)
    with pytest.raises(DataError, match="OUT"):
        chain(python(f"{HERE}:wrong"), allowed=("tests.support",)).run({"IN": given})


@pytest.mark.parametrize(
    ("function", "allowed"),
    [
        ("os:system", ()),
        ("os:system", (HERE,)),
        (f"{HERE}:system", (HERE,)),  # another package's function under an allowed name
        (f"{HERE}x:doubled", (HERE,)),
        ("tests.support:doubled", (HERE,)),
    ],
)
def test_other_functions_are_refused(function: str, allowed: tuple[str, ...]) -> None:
    with pytest.raises(UnsafeSource) as caught:
        chain(python(function), allowed=allowed)
    assert caught.value.problem.field == "steps[0].function"


def test_what_is_refused_is_not_imported() -> None:
    sys.modules.pop("this", None)
    with pytest.raises(UnsafeSource):
        chain(python("this:anything"))
    assert "this" not in sys.modules
    with pytest.raises(SpecError):
        chain(python(f"{HERE}:_hidden"), allowed=(HERE,))
    with pytest.raises(SourceError, match="no such function"):
        chain(python(f"{HERE}:missing"), allowed=(HERE,))


def test_a_models_folder_may_bring_its_steps(tmp_path: Path) -> None:
    assert read_chain(tmp_path) is None
    data = {"version": 1, "steps": [{"kind": "window", "length": 4, "hop": 2}]}
    (tmp_path / CHAIN_FILE).write_text(json.dumps(data))
    first = read_chain(tmp_path)
    assert first is not None
    data["steps"][0]["hop"] = 3  # type: ignore[index]
    (tmp_path / CHAIN_FILE).write_text(json.dumps(data))
    second = read_chain(tmp_path)
    assert second is not None
    assert first.digest != second.digest
    for hostile in ("[", '{"version": 2, "steps": []}', "[]"):
        (tmp_path / CHAIN_FILE).write_text(hostile)
        with pytest.raises(SourceError):
            read_chain(tmp_path)
