from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.source_folders import WORDS, bert_config, raised, tokenizer_data

from stillhouse.errors import SourceError, UnsafeSource
from stillhouse.passes.sources.architecture import own_max_length, pooling_of, read_config
from stillhouse.passes.sources.folder import SourceFolder, copy_file, read_json
from stillhouse.passes.sources.labels import check_outputs, label_order, licence_of
from stillhouse.passes.sources.limits import chosen_max_length
from stillhouse.passes.sources.tokenizer import inspect_tokenizer
from stillhouse.passes.sources.weights import Tensor


def opened(folder: Path, **files: object) -> SourceFolder:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("__", ".")).write_text(text)
    return SourceFolder.open(folder)


def test_links_are_followed_inside_only(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.json").write_text("{}")
    (folder / "real.json").write_text("{}")
    (folder / "inside.json").symlink_to("real.json")
    (folder / "outside.json").symlink_to("../secret.json")
    (folder / "absolute.json").symlink_to(tmp_path / "secret.json")
    (folder / "broken.json").symlink_to("nothing")
    os.mkfifo(folder / "pipe.json")
    source = SourceFolder.open(folder)
    assert source.path("inside.json") == folder / "real.json"
    for name in ("outside.json", "absolute.json", "broken.json", "pipe.json"):
        assert name in raised(UnsafeSource, lambda name=name: source.path(name))  # type: ignore[misc]


def test_linked_folder_is_not_entered(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "self").symlink_to(folder, target_is_directory=True)
    assert set(SourceFolder.open(folder).files) == {"config.json"}


def test_links_of_the_hubs_cache_lead_to_its_blobs(tmp_path: Path) -> None:
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "abc").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    (repository / "refs.json").write_text("{}")
    (snapshot / "modules.json").symlink_to("../../refs.json")
    source = SourceFolder.open(snapshot)
    assert source.path("config.json") == repository / "blobs" / "abc"
    raised(UnsafeSource, lambda: source.path("modules.json"))


def test_copies_are_no_links(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").symlink_to("a")
    copy_file(tmp_path / "b", tmp_path / "deep" / "c")
    copy = tmp_path / "deep" / "c"
    assert not copy.is_symlink()
    assert copy.stat().st_ino != (tmp_path / "a").stat().st_ino


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    raised(SourceError, lambda: SourceFolder.open(tmp_path / "x"))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=64))
def test_json_is_an_object_or_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    path.write_bytes(content)
    with contextlib.suppress(SourceError):
        assert isinstance(read_json(path, "x.json"), dict)


def test_json_nested_too_deeply(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'{"a":' * 200_000)
    raised(SourceError, lambda: read_json(path, "x.json"))


@pytest.mark.parametrize("key", ["auto_map", "trust_remote_code", "custom_pipelines"])
def test_configs_that_ask_for_code(key: str, tmp_path: Path) -> None:
    source = opened(tmp_path, config__json={**bert_config(), key: {"AutoModel": "modeling.Evil"}})
    assert key in raised(UnsafeSource, lambda: read_config(source))


def test_tokenizer_config_that_asks_for_code(tmp_path: Path) -> None:
    source = opened(
        tmp_path, tokenizer__json=tokenizer_data(), tokenizer_config__json={"auto_map": {"AutoTokenizer": ["x.Y", None]}}
    )
    raised(UnsafeSource, lambda: inspect_tokenizer(source, {}, None))


def test_config_of_weights_that_are_quantized_already(tmp_path: Path) -> None:
    raised(SourceError, lambda: read_config(opened(tmp_path, config__json=bert_config(quantization_config={"bits": 4}))))


def test_config_without_an_architecture(tmp_path: Path) -> None:
    raised(SourceError, lambda: read_config(opened(tmp_path, config__json={"hidden_size": 3})))


def test_slow_tokenizer_says_how_to_convert(tmp_path: Path) -> None:
    source = opened(tmp_path, vocab__txt="[PAD]\n[UNK]\n")
    assert "use_fast=True" in raised(SourceError, lambda: inspect_tokenizer(source, {}, None))


def test_tokenizer_that_does_not_fit(tmp_path: Path) -> None:
    source = opened(tmp_path, tokenizer__json=tokenizer_data())
    assert inspect_tokenizer(source, {}, len(WORDS)).rows == len(WORDS)
    text = raised(SourceError, lambda: inspect_tokenizer(source, {}, len(WORDS) - 1))
    assert f"ids up to {len(WORDS) - 1}" in text


@pytest.mark.parametrize("content", ["{}", '{"model": {"type": "Evil"}}', "[]", "x"])
def test_tokenizer_that_cannot_be_read(content: str, tmp_path: Path) -> None:
    raised(SourceError, lambda: inspect_tokenizer(opened(tmp_path, tokenizer__json=content), {}, None))


def test_padding_token_is_found(tmp_path: Path) -> None:
    source = opened(tmp_path, tokenizer__json=tokenizer_data())
    assert inspect_tokenizer(source, {}, None).pad_id == WORDS.index("[PAD]")
    assert inspect_tokenizer(source, {"pad_token_id": 5}, None).pad_id == 5


def around(token: str, number: int) -> dict[str, object]:
    """Return a tokenizer that puts the token around a text with another id than the vocabulary's."""
    data = tokenizer_data()
    data["post_processor"]["special_tokens"][token]["ids"] = [number]
    return data


@pytest.mark.parametrize("rows", [len(WORDS) + 5, None])
def test_what_the_tokenizer_puts_around_a_text_has_an_embedding(rows: int | None, tmp_path: Path) -> None:
    source = opened(tmp_path, tokenizer__json=around("[SEP]", 900))
    text = raised(SourceError, lambda: inspect_tokenizer(source, {}, rows))
    assert "token id 900" in text
    assert "post_processor" in text
    assert inspect_tokenizer(source, {}, 901).rows == len(WORDS)


def test_padding_of_the_tokenizers_file_is_not_carried_out(tmp_path: Path) -> None:
    padding = {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": None,
               "pad_id": 4, "pad_type_id": 0, "pad_token": "[NONE]"}  # fmt: skip
    source = opened(tmp_path, tokenizer__json={**tokenizer_data(), "padding": padding})
    assert inspect_tokenizer(source, {}, len(WORDS)).rows == len(WORDS)


def test_tokenizer_that_has_nothing_for_unknown_words(tmp_path: Path) -> None:
    data = tokenizer_data()
    data["model"]["unk_token"] = "[NONE]"
    assert "cannot encode" in raised(
        SourceError, lambda: inspect_tokenizer(opened(tmp_path, tokenizer__json=data), {}, len(WORDS))
    )


def test_padding_token_has_an_embedding(tmp_path: Path) -> None:
    source = opened(tmp_path, tokenizer__json=tokenizer_data())
    text = raised(SourceError, lambda: inspect_tokenizer(source, {"pad_token_id": len(WORDS)}, len(WORDS)))
    assert text.startswith("source.uri: config.json: pad_token_id")


def pooled(folder: Path, flags: object, kinds: tuple[str, ...] = ("Transformer", "Pooling")) -> SourceFolder:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    return opened(
        folder, modules__json=[{"type": f"x.y.{kind}", "path": "1_Pooling" if kind == "Pooling" else ""} for kind in kinds]
    )


@pytest.mark.parametrize(
    ("flags", "mode"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_pooling_of_sentence_transformers(flags: object, mode: str, tmp_path: Path) -> None:
    found = pooling_of(pooled(tmp_path, flags))
    assert (found.mode, found.normalize) == (mode, False)


@pytest.mark.parametrize("flags", [{"pooling_mode_max_tokens": True}, {}, {"pooling_mode": "lasttoken"},
                                   {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}])  # fmt: skip
def test_other_poolings_are_refused(flags: object, tmp_path: Path) -> None:
    assert "mean, cls" in raised(SourceError, lambda: pooling_of(pooled(tmp_path, flags)))


def test_module_that_is_not_understood(tmp_path: Path) -> None:
    source = pooled(tmp_path, {"pooling_mode": "mean"}, ("Transformer", "Pooling", "Dense"))
    assert "Dense" in raised(SourceError, lambda: pooling_of(source))


def test_plain_encoder_is_pooled_by_the_mean(tmp_path: Path) -> None:
    found = pooling_of(opened(tmp_path, config__json={}))
    assert (found.mode, found.normalize) == ("mean", True)


def test_labels_come_in_the_order_of_ids() -> None:
    assert label_order({"id2label": {"1": "b", "0": "a", "10": "k", **{str(n): f"l{n}" for n in range(2, 10)}}}, None)[:3] == (
        "a",
        "b",
        "l2",
    )
    assert label_order({}, ["x", "y"]) == ("x", "y")
    assert label_order({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, ["x", "y"]) == ("x", "y")


@pytest.mark.parametrize(
    ("config", "given"),
    [({}, None), ({"id2label": {"0": "a", "2": "b"}}, None), ({"id2label": {"0": "a", "1": "a"}}, None),
     ({"id2label": {"0": "a", "1": "b"}}, ["x"]), ({"id2label": {"zero": "a"}}, None),
     ({"id2label": {"0": "a", "1": "b"}}, ["b", "a"])],
)  # fmt: skip
def test_labels_that_do_not_fit(config: dict[str, object], given: list[str] | None) -> None:
    assert "source.labels" in raised(SourceError, lambda: label_order(config, given))


def test_an_encoder_without_labels_is_told_to_be_of_another_task() -> None:
    told = raised(SourceError, lambda: label_order({"architectures": ["BertModel"]}, None))
    assert "another task" in told and "BertModel" in told and "spec.source.fineTune" in told
    assert "no labels" in raised(SourceError, lambda: label_order({"architectures": ["BertForSequenceClassification"]}, None))
    assert label_order({"architectures": ["OurModel"]}, ["x", "y"]) == ("x", "y"), "its weights say whether it has a head"


def test_very_many_labels_are_ordered_in_no_time() -> None:
    labels = label_order({"id2label": {str(number): f"label {number}" for number in range(100_000)}}, None)
    assert labels[99_999] == "label 99999"


def test_labels_are_held_against_the_heads_rows() -> None:
    head = {"classifier.weight": Tensor("F32", (3, 32), 0, 384)}
    check_outputs(("a", "b", "c"), head)
    assert "2 labels, 3 rows of classifier.weight" in raised(SourceError, lambda: check_outputs(("a", "b"), head))
    check_outputs(("a", "b"), {"network.head": Tensor("F32", (3, 32), 0, 384)})  # no name of a head: seen later


def test_licence_is_taken_from_the_readme_or_the_licence_file(tmp_path: Path) -> None:
    assert licence_of(opened(tmp_path, config__json={})) == ""
    assert licence_of(opened(tmp_path, LICENSE="                  Apache License\n  Version 2.0")) == "Apache-2.0"
    assert licence_of(opened(tmp_path, README__md="---\nlicense: mit\n---\n")) == "mit"


def test_length_is_the_models_own_unless_the_resource_says_less(tmp_path: Path) -> None:
    source = opened(
        tmp_path, tokenizer_config__json={"model_max_length": int(1e30)}, sentence_bert_config__json={"max_seq_length": 40}
    )
    config = bert_config()
    assert own_max_length(source, config) == (40, 48)
    assert chosen_max_length(None, source, config) == (40, 40)
    assert chosen_max_length(48, source, config) == (48, 40)
    assert "at most 48" in raised(SourceError, lambda: chosen_max_length(49, source, config))
    assert own_max_length(source, {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1})[1] == 512


def test_length_of_half_a_token_is_no_statement(tmp_path: Path) -> None:
    assert own_max_length(opened(tmp_path, tokenizer_config__json={"model_max_length": 0.5}), bert_config()) == (48, 48)


def test_positions_that_the_padding_takes_up(tmp_path: Path) -> None:
    config = {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 600}
    assert "max_position_embeddings" in raised(SourceError, lambda: own_max_length(opened(tmp_path, x={}), config))
