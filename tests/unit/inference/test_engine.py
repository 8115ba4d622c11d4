"""The engine on models of a few KB: ONNX Runtime runs for real."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from tests.support.tiny_model import IMAGE, WORDS, write_tiny_model

from stillhouse.errors import DataError, SourceError
from stillhouse.inference.buckets import BucketPolicy
from stillhouse.inference.engine import Engine
from stillhouse.inference.image import decode_image, normalise
from stillhouse.inference.postprocess import softmax, top_labels
from stillhouse.inference.text import decode_utf8

TEXTS = ["open the file", "a", "return the list of path name value", "", "unseen words here", "read write read write read"]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    write_tiny_model(tmp_path, max_length=8)
    return Engine(tmp_path)


def test_embeddings_are_normalised_and_in_order(engine: Engine) -> None:
    values = engine.embed(TEXTS)
    assert values.shape == (len(TEXTS), 16)
    assert values.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, rtol=1e-5)
    one_by_one = np.concatenate([engine.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(values, one_by_one, atol=1e-6)


def test_embedding_is_the_mean_of_the_words(engine: Engine) -> None:
    # Tokens of "open": [CLS] open [SEP]; the table comes from seed 0.
    table = np.random.default_rng(0).normal(size=(len(WORDS), 16)).astype(np.float32)
    mean = table[[2, WORDS.index("open"), 3]].mean(axis=0)
    np.testing.assert_allclose(engine.embed(["open"])[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_buckets_do_not_change_the_answer(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    policies = (BucketPolicy(max_rows=1), BucketPolicy(overhead=1000), BucketPolicy(max_rows=2))
    answers = [Engine(tmp_path, buckets=policy).embed(TEXTS) for policy in policies]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)
    np.testing.assert_allclose(answers[0], answers[2], atol=1e-6)


def test_what_was_cut_is_counted(engine: Engine) -> None:
    # 8 tokens, two of them special: six words fit.
    result = engine.run_texts(["a a a a a a", "a a a a a a a a a", "open"])
    assert result.cut == [0, 3, 0]
    assert result.provenance.to_json() == {"texts": 3, "truncatedTexts": 1, "truncatedTokens": 3}


def test_no_texts_give_no_rows(engine: Engine) -> None:
    assert engine.embed([]).shape == (0, 16)


def test_probabilities(tmp_path: Path) -> None:
    write_tiny_model(tmp_path, task="text-classification", labels=("no", "yes"))
    engine = Engine(tmp_path)
    values = engine.predict(TEXTS)
    assert values.shape == (len(TEXTS), 2)
    np.testing.assert_allclose(values.sum(axis=1), 1, rtol=1e-5)
    with pytest.raises(DataError, match="another task"):
        engine.embed(["a"])


def test_images(tmp_path: Path) -> None:
    write_tiny_model(tmp_path, task="image-classification")
    engine = Engine(tmp_path)
    images = np.random.default_rng(1).random((5, 3, 8, 8), dtype=np.float32)
    values = engine.predict_arrays(images)
    assert values.shape == (5, 3)
    head = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    mean, std = np.array(IMAGE.mean), np.array(IMAGE.std)
    expected = softmax((((images.mean(axis=(2, 3)) - mean) / std) @ head).astype(np.float32))
    np.testing.assert_allclose(values, expected, atol=1e-5)
    with pytest.raises(DataError, match="takes images"):
        engine.run_texts(["a"])


@pytest.mark.parametrize("text", ["a\ud800b", 3, None])
def test_what_is_no_text_is_named(engine: Engine, text: object) -> None:
    with pytest.raises(DataError) as caught:
        engine.run_texts(["fine", text])  # type: ignore[list-item]
    assert caught.value.problem.field == "TEXT[1]"


def test_bad_utf8_names_row_and_byte() -> None:
    assert decode_utf8(["ä".encode(), b""], "TEXT") == ["ä", ""]
    with pytest.raises(DataError) as caught:
        decode_utf8([b"ok", b"ab\xff"], "TEXT")
    assert caught.value.problem.field == "TEXT[1]"
    assert caught.value.problem.found == "byte 0xff at position 2"


def test_wrong_images_are_refused() -> None:
    with pytest.raises(DataError, match="another shape"):
        normalise(np.zeros((1, 3, 8, 9), np.float32), IMAGE)
    with pytest.raises(DataError, match="not finite"):
        normalise(np.full((1, 3, 8, 8), np.nan, np.float32), IMAGE)
    with pytest.raises(DataError, match="cannot be decoded") as refused:
        decode_image(b"no image", IMAGE)
    assert refused.value.problem.found == "neither PNG nor JPEG"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_files_are_decoded_to_unit_range(kind: str) -> None:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (16, 12), (255, 0, 128)).save(file, kind)
    pixels = decode_image(file.getvalue(), IMAGE)
    assert pixels.shape == (3, 8, 8)
    np.testing.assert_allclose(pixels.mean(axis=(1, 2)), np.array([1, 0, 128 / 255]), atol=0.02)


def test_damaged_artifacts_are_user_errors(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(SourceError, match="tokenizer is not readable"):
        Engine(tmp_path)
    write_tiny_model(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"\x00")
    with pytest.raises(SourceError, match="model is not readable"):
        Engine(tmp_path)
    write_tiny_model(tmp_path)
    path = tmp_path / "signature.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(SourceError, match="signature is not readable"):
        Engine(tmp_path)
    path.write_text(json.dumps({**data, "output": "other"}), encoding="utf-8")
    with pytest.raises(SourceError, match="differ from its signature"):
        Engine(tmp_path)
    path.write_text(json.dumps({**data, "max_length": 2}), encoding="utf-8")
    with pytest.raises(SourceError, match="no token beside the special ones"):
        Engine(tmp_path)


def test_softmax_survives_large_logits() -> None:
    values = softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]], np.float32))
    np.testing.assert_allclose(values, np.array([[0.5, 0.5], [0, 1]]), atol=1e-6)
    assert top_labels(values, ("a", "b")) == ["a", "b"]


def test_images_of_no_pixels_in_memory_are_not_needed_to_refuse_them() -> None:
    from PIL import Image

    file = io.BytesIO()
    Image.new("1", (9000, 9000)).save(file, "PNG")
    with pytest.raises(DataError, match="too large"):
        decode_image(file.getvalue(), IMAGE)
