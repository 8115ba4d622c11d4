"""What a teacher says is kept: in the rows' order, in shards, going on after an interruption."""

import pytest
import torch
from tests.support.artifacts import Recorder, dataset
from tests.support.lessons import OUTPUTS, go

from stillhouse.errors import DataError, SpecError
from stillhouse.passes.distill.teacher import TeacherOutputs, read_outputs
from stillhouse.passes.models.artifact import load
from stillhouse.passes.models.precision import reading_precision_name


def test_outputs_are_the_teachers_in_the_datas_order(teacher, data, texts, outputs):
    from tokenizers import Tokenizer

    tensors, description = read_outputs(outputs.path)
    assert tensors["embedding"].shape == (50, 32)
    assert description["shards"] == 4
    network = load(teacher.path)
    tokenizer = Tokenizer.from_file(str(teacher.path / "tokenizer.json"))
    for row in (0, 17, 49):
        ids = torch.tensor([[*tokenizer.encode(texts[row]).ids[:31], 3]])
        if len(tokenizer.encode(texts[row]).ids) <= 32:
            ids = torch.tensor([tokenizer.encode(texts[row]).ids])
        alone = network(ids, torch.ones_like(ids), torch.zeros_like(ids))[0]
        near = torch.nn.functional.cosine_similarity(tensors["embedding"].float(), alone.unsqueeze(0), dim=1)
        assert near.argmax().item() == row
        assert near[row] > 0.999  # bfloat16 where the processor has it, float16 in the file


def test_outputs_count_what_was_cut(teacher, data, texts, tmp_path):
    whole = [len(text.split()) + 2 for text in texts]  # each of its words is one token
    _, facts = go(TeacherOutputs(), {**OUTPUTS, "maxLength": 10}, {"teacher": teacher, "data": data}, tmp_path)
    assert facts["rows"] == 50
    assert facts["truncated_rows"] == sum(length > 10 for length in whole)
    assert facts["truncated_tokens"] == sum(max(0, length - 10) for length in whole)
    assert facts["precision"] == reading_precision_name(load(teacher.path)), "no key holds it: it must be on record"
    assert facts["tokens"] == sum(min(10, length) for length in whole)


def test_outputs_go_on_after_an_interruption_with_the_same_bytes(teacher, data, texts, outputs, tmp_path):
    two_shards = sum(min(32, len(text.split()) + 2) for text in texts[:32])
    inputs = {"teacher": teacher, "data": data}
    with pytest.raises(KeyboardInterrupt):
        go(TeacherOutputs(), OUTPUTS, inputs, tmp_path, Recorder(stop_at=two_shards + 1, unit="tokens"))
    ready = sorted(path.name for path in (tmp_path / "scratch").glob("*.safetensors"))
    assert ready == ["outputs-00000.safetensors", "outputs-00001.safetensors"]
    stamps = [(tmp_path / "scratch" / name).stat().st_mtime_ns for name in ready]
    (tmp_path / "scratch" / "outputs-00002.safetensors").write_bytes(b"torn")
    again, _ = go(TeacherOutputs(), OUTPUTS, inputs, tmp_path)
    assert again.digest == outputs.digest
    assert [(tmp_path / "scratch" / name).stat().st_mtime_ns for name in ready] == stamps


def test_outputs_report_progress_to_the_end(teacher, data, texts, tmp_path):
    recorder = Recorder()
    go(TeacherOutputs(), OUTPUTS, {"teacher": teacher, "data": data}, tmp_path, recorder)
    told = [(done, total, unit) for done, total, unit, message in recorder.updates if message == "asking the teacher"]
    tokens = sum(min(32, len(text.split()) + 2) for text in texts)
    assert told[-1] == (tokens, tokens, "tokens")
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_logits_and_hidden_states(judge, data, tmp_path):
    config = {"outputs": ["logits", "hidden"], "maxLength": 32, "layers": [1, 3], "shardRows": 64}
    made, _ = go(TeacherOutputs(), config, {"teacher": judge, "data": data}, tmp_path)
    tensors, _ = read_outputs(made.path)
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == {
        "logits": [50, 3],
        "hidden-1": [50, 32],
        "hidden-3": [50, 32],
    }


def test_the_last_layer_is_the_one_that_is_meant_where_none_is_named(judge, data, tmp_path):
    config = {"outputs": ["logits", "hidden"], "maxLength": 32, "layers": [-1, 3], "shardRows": 64}
    made, _ = go(TeacherOutputs(), config, {"teacher": judge, "data": data}, tmp_path)
    tensors, description = read_outputs(made.path)
    assert set(tensors) == {"logits", "hidden-3"}
    assert (description["layers"], description["teacher_layers"]) == ([3], 3)


@pytest.mark.parametrize("change", [{"outputs": ["logits"]}, {"outputs": ["hidden"], "layers": [4]}])
def test_what_the_teacher_does_not_have_is_refused(teacher, data, tmp_path, change):
    with pytest.raises(SpecError):
        go(TeacherOutputs(), {**OUTPUTS, **change}, {"teacher": teacher, "data": data}, tmp_path)


def test_rows_that_are_no_texts_are_refused(teacher, tmp_path):
    bad = dataset(tmp_path / "data", text=["fine", None])
    with pytest.raises(DataError) as caught:
        go(TeacherOutputs(), OUTPUTS, {"teacher": teacher, "data": bad}, tmp_path / "run")
    assert caught.value.problem.field == "data.columns.text"
