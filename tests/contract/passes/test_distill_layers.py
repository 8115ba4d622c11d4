"""Terms that look at every position: against loops over numbers, against differences, and in training with a teacher beside."""

import dataclasses
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.support.artifacts import WORDS, artifact, context, dataset, sentences, tiny_teacher, vision_transformer
from tests.support.lessons import OUTPUTS, SHAPE, STAGE, go
from tests.support.source_folders import write_bert_folder

from stillhouse.clients.sources.digest import digest_of
from stillhouse.errors import SpecError
from stillhouse.inference.signature import Signature
from stillhouse.passes.distill.losses import build_losses
from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.losses.term import Sizes, Targets
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.models.architecture import Architecture
from stillhouse.passes.models.artifact import load
from stillhouse.passes.models.network import Network, NetworkOutput
from stillhouse.passes.models.traces import Traces
from stillhouse.passes.sources.model import ImportModel

KINDS = ("hidden-tokens", "attention-transfer", "attention-relation", "value-relation")
SIZES = Sizes(2, 4, 6, {}, 8, 4)  # two layers of width 4 learn from six of width 8 with four heads
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])


def term_of(kind, sizes=SIZES, **config):
    (term,) = build_losses([LossConfig(kind=kind, **config)], sizes)
    return term.double()


def numbers(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def rows_of(tensor):
    """Return the tokens of each row that are no padding."""
    return [[token for token, there in zip(row, mask, strict=True) if there] for row, mask in zip(tensor, MASK, strict=True)]


def distance(kind, mine, theirs):
    if kind == "mse":
        return sum((a - b) ** 2 for a, b in zip(mine, theirs, strict=True)) / len(theirs)
    return 1 - sum(a * b for a, b in zip(mine, theirs, strict=True)) / (math.hypot(*mine) * math.hypot(*theirs))


@pytest.mark.parametrize("kind", ["mse", "cosine"])
def test_hidden_tokens(kind):
    term = term_of("hidden-tokens", distance=kind, layer=3)
    student, teacher = numbers(1, 2, 3, 4), numbers(2, 2, 3, 8)
    teacher[1, 2] = float("nan")  # padding

    def forward(states):
        return term(NetworkOutput(states, traces={"state-1": states}, mask=MASK), Targets({"state-3": teacher}, None))

    matrix = term.projection.weight.tolist()
    found = [
        distance(kind, [sum(w * x for w, x in zip(line, s, strict=True)) for line in matrix], t)
        for mine, theirs in zip(rows_of(student.tolist()), rows_of(teacher.tolist()), strict=True)
        for s, t in zip(mine, theirs, strict=True)
    ]
    assert len(found) == 5
    assert forward(student).item() == pytest.approx(sum(found) / 5, rel=1e-9)
    assert torch.autograd.gradcheck(forward, student.clone().requires_grad_())


def test_attention_transfer():
    term = term_of("attention-transfer")
    student, teacher = numbers(3, 2, 3, 4), numbers(4, 2, 3, 8)

    def forward(states):
        return term(NetworkOutput(states, traces={"state-2": states}, mask=MASK), Targets({"state-6": teacher}, None))

    found = []
    for mine, theirs in zip(rows_of(student.tolist()), rows_of(teacher.tolist()), strict=True):
        maps = [[sum(x * x for x in token) for token in tokens] for tokens in (mine, theirs)]
        unit = [[value / math.hypot(*each) for value in each] for each in maps]
        found.append(sum((a - b) ** 2 for a, b in zip(*unit, strict=True)))
    assert forward(student).item() == pytest.approx(sum(found) / 2, rel=1e-9)
    assert torch.autograd.gradcheck(forward, student.clone().requires_grad_())


def relations(a, b, heads):
    """Return [head][query][key] of one row's tokens."""
    size, out = len(a[0]) // heads, []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        lines = []
        for query in a:
            powers = [math.exp(sum(x * y for x, y in zip(query[part], key[part], strict=True)) / math.sqrt(size)) for key in b]
            lines.append([power / sum(powers) for power in powers])
        out.append(lines)
    return out


@pytest.mark.parametrize("kind", ["attention-relation", "value-relation"])
def test_relations(kind):
    term = term_of(kind)
    assert term.heads == 4  # divides 8 and 4, and the teacher has as many
    names = ("query", "key") if kind == "attention-relation" else ("value", "value")
    student, teacher = [numbers(seed, 2, 3, 4) for seed in (5, 6)], [numbers(seed, 2, 3, 8) for seed in (7, 8)]

    def forward(a, b):
        traces = {f"{name}-2": value for name, value in zip(reversed(names), (b, a), strict=True)}
        theirs = {f"{name}-6": value for name, value in zip(reversed(names), reversed(teacher), strict=True)}
        return term(NetworkOutput(a, traces=traces, mask=MASK), Targets(theirs, None))

    given = student if names[0] != names[1] else [student[0], student[0]]
    told = teacher if names[0] != names[1] else [teacher[0], teacher[0]]
    rows = []
    for at in range(2):
        mine = relations(*(rows_of(each.tolist())[at] for each in given), 4)
        theirs = relations(*(rows_of(each.tolist())[at] for each in told), 4)
        pairs = [(p, q) for a, b in zip(theirs, mine, strict=True) for p, q in zip(a, b, strict=True)]
        each = [sum(x * math.log(x / y) for x, y in zip(p, q, strict=True)) for p, q in pairs]
        rows.append(sum(each) / len(each))
    assert forward(*student).item() == pytest.approx(sum(rows) / 2, rel=1e-9)
    assert torch.autograd.gradcheck(forward, tuple(each.clone().requires_grad_() for each in student))


@pytest.mark.parametrize(
    ("widths", "heads", "found"), [((384, 192), 12, 12), ((384, 100), 12, 4), ((384, 96), 5, 4), ((7, 3), 12, 1)]
)
def test_relation_heads_divide_both_widths(widths, heads, found):
    from stillhouse.passes.distill.losses.relations import relation_heads

    assert relation_heads(Sizes(2, widths[1], 6, {}, widths[0], heads)) == found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("sizes", "config", "found", "allowed"),
    [
        (SIZES, {"layer": 7}, "layer 7 of the teacher", "1 to 6"),
        (SIZES, {"layer": 3, "studentLayer": 3}, "layer 3 of the student", "1 to 2"),
        (
            Sizes(0, 0, 6, {}, 8, 4),
            {"layer": 3},
            "a layer of the student",
            "none: such a network has no layers to be held against another's",
        ),
    ],
)
def test_layers_that_there_are_not(kind, sizes, config, found, allowed):
    with pytest.raises(SpecError) as caught:
        term_of(kind, sizes, **config)
    problem = caught.value.problem
    assert (problem.field, problem.found, problem.allowed) == ("spec.distill.stages[].losses[].layers", found, allowed)


def test_layers_of_unlike_positions_are_refused():
    term = term_of("attention-transfer")
    with pytest.raises(SpecError, match="same positions") as caught:
        term(
            NetworkOutput(torch.ones(1), traces={"state-2": torch.ones(1, 4, 2)}), Targets({"state-6": torch.ones(1, 9, 2)}, None)
        )
    assert caught.value.problem.found == "4 positions in layer 2 of the student, 9 in layer 6 of the teacher"


# --- traces -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("layers")
    given = {"teacher": tiny_teacher(root / "teacher"), "data": dataset(root / "data", text=sentences(50, seed=1))}
    return {**given, "student": go(InitStudent(), {**SHAPE, "init": "svd"}, given, root / "student")[0]}


def test_traces_are_what_the_network_itself_says(inputs):
    network = load(inputs["teacher"].path, "eager")
    wanted = [(what, layer) for what in ("state", "query", "key", "value") for layer in (1, 3)]
    traces = Traces(network, wanted, "field")
    ids = torch.tensor([[2, 40, 41, 42, 3], [2, 43, 3, 0, 0]])
    mask = (ids > 0).long()
    with torch.no_grad():
        network(ids, mask, torch.zeros_like(ids))
        found = traces.take()
        said = network.body(ids, mask, output_hidden_states=True, output_attentions=True)
    assert set(found) == {f"{what}-{layer}" for what, layer in wanted}
    for layer in (1, 3):
        assert torch.equal(found[f"state-{layer}"], said.hidden_states[layer])
        query, key, value = (found[f"{name}-{layer}"].unflatten(2, (4, 8)).transpose(1, 2) for name in ("query", "key", "value"))
        scores = (query @ key.transpose(2, 3) / math.sqrt(8)).masked_fill(mask[:, None, None, :] == 0, -torch.inf)
        assert torch.allclose(scores.softmax(3), said.attentions[layer - 1], atol=1e-5)
        assert torch.equal(
            value.transpose(1, 2).flatten(2),
            network.body.encoder.layer[layer - 1].attention.self.value(said.hidden_states[layer - 1]),
        )
    traces.close()
    traces.take()
    network(ids, mask, torch.zeros_like(ids))
    assert not traces.take()


def test_traces_of_a_residual_student(inputs, tmp_path):
    given = {name: inputs[name] for name in ("teacher", "data")}
    made = go(InitStudent(), {**SHAPE, "architecture": "residual", "init": "static"}, given, tmp_path)[0]
    network = load(made.path)
    traces = Traces(network, [("state", 2), ("query", 1), ("value", 1)], "field")
    network(torch.tensor([[2, 40, 41, 3]]), torch.ones(1, 4, dtype=torch.int64))
    found = traces.take()
    assert {name: list(value.shape) for name, value in found.items()} == {name: [1, 4, 16] for name in found}
    assert not torch.equal(found["query-1"], found["value-1"])


def encoder(config):
    from transformers import AutoModel

    torch.manual_seed(0)
    inputs = ("input_ids", "attention_mask")
    signature = Signature("sentence-embedding", inputs, "sentence_embedding", 16, max_length=32, pad_id=0, tokenizer_digest="")
    network = Network(AutoModel.from_config(config), Architecture(kind="hf-encoder", pooling="mean", normalize=True), signature)
    network.eval()
    return network


SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def test_families_call_their_projections_otherwise():
    from transformers import DebertaV2Config, DistilBertConfig, ModernBertConfig, MPNetConfig

    special = dict.fromkeys(("pad_token_id", "cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id"), 0)
    for config in (
        MPNetConfig(**SMALL, max_position_embeddings=40),
        DebertaV2Config(**SMALL, max_position_embeddings=40),
        ModernBertConfig(**SMALL, **special),
        DistilBertConfig(vocab_size=50, dim=16, n_layers=2, n_heads=2, hidden_dim=32),
    ):
        network = encoder(config)
        traces = Traces(network, [(what, 2) for what in ("state", "query", "key", "value")], "field")
        ids = torch.tensor([[2, 40, 41, 3]])
        with torch.no_grad():
            network(ids, torch.ones_like(ids))
        found = traces.take()
        assert {tuple(value.shape) for value in found.values()} == {(1, 4, 16)}
        assert len({tuple(value.flatten().tolist()) for value in found.values()}) == 4, "four things that differ"


def test_layers_that_share_their_weights_can_be_neither_watched_nor_frozen():
    from transformers import AlbertConfig

    from stillhouse.passes.distill.freezing import Freeze, frozen

    network = encoder(AlbertConfig(**SMALL, embedding_size=16, max_position_embeddings=40))
    with pytest.raises(SpecError, match="does not show"):
        Traces(network, [("state", 1)], "field")
    with pytest.raises(SpecError, match="cannot be told apart"), frozen(network, Freeze(embeddings=True, layers=1)):
        pass
    with frozen(network, Freeze(embeddings=True)):
        assert not network.body.embeddings.word_embeddings.weight.requires_grad
    assert network.body.embeddings.word_embeddings.weight.requires_grad


def test_a_layer_that_a_network_does_not_show_is_refused(inputs):
    network = load(inputs["teacher"].path)
    with pytest.raises(SpecError) as caught:
        Traces(network, [("state", 4)], "the.field")
    assert (caught.value.problem.field, caught.value.problem.found, caught.value.problem.allowed) == (
        "the.field",
        "layer 4",
        "1 to 3",
    )
    network.body.encoder.layer[0].attention.self.query = torch.nn.Identity()
    with pytest.raises(SpecError, match="shows no query projection"):
        Traces(network, [("query", 1)], "the.field")


# --- training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "attention-transfer"])
def test_a_student_comes_nearer_to_a_teacher_that_reads_along(inputs, tmp_path, kind):
    losses = [{"kind": kind, "layer": 3, "studentLayer": 2}, {"kind": kind, "layer": 2, "studentLayer": 1, "weight": 0.5}]
    config = {**STAGE, "losses": losses, "epochs": 6}
    made, facts = go(Distill(), config, inputs, tmp_path / "a")
    again, _ = go(Distill(), config, inputs, tmp_path / "b")
    assert made.digest == again.digest
    for name in (f"{kind}-1", f"{kind}-2"):
        assert facts["curve"][-1]["terms"][name] < 0.95 * facts["curve"][0]["terms"][name]
    assert set(load_file(made.path / "model.safetensors")) == set(load_file(inputs["student"].path / "model.safetensors"))


def test_where_an_image_is_looked_at_is_learned(tmp_path):
    images = np.random.default_rng(3).random((24, 64)).astype(np.float32).tolist()
    inputs = {
        "teacher": vision_transformer(tmp_path / "teacher", 16, 3),
        "student": vision_transformer(tmp_path / "student", 8, 1),
        "data": dataset(tmp_path / "data", image=images),
    }
    config = {**STAGE, "losses": [{"kind": "attention-transfer"}, {"kind": "value-relation"}], "epochs": 8}
    _, facts = go(Distill(), config, inputs, tmp_path / "run")
    for name in ("attention-transfer", "value-relation"):
        assert facts["curve"][-1]["terms"][name] < 0.8 * facts["curve"][0]["terms"][name]
    coarse = {**inputs, "student": vision_transformer(tmp_path / "coarse", 8, 1, patch=4)}
    with pytest.raises(SpecError, match="same positions"):
        go(Distill(), config, coarse, tmp_path / "coarse-run")


def test_slices_of_unlike_lengths_are_one_batch(inputs, tmp_path, monkeypatch):
    from stillhouse.passes.distill import step

    outputs = go(TeacherOutputs(), OUTPUTS, {name: inputs[name] for name in ("teacher", "data")}, tmp_path / "o")[0]
    losses = [{"kind": kind, "layer": 3} for kind in KINDS] + [{"kind": "embedding"}]
    config = {**STAGE, "losses": losses, "epochs": 1}
    said = []
    for tokens in (8192, 40):  # the whole batch at once, and a few rows at a time
        monkeypatch.setattr(step, "_SLICE_TOKENS", tokens)
        said.append(go(Distill(), config, {**inputs, "outputs": outputs}, tmp_path / str(tokens))[1]["curve"][0]["terms"])
    assert said[0] == pytest.approx(said[1], rel=2e-2, abs=1e-3)


def test_a_trimmed_vocabulary_excludes_them(inputs, tmp_path):
    given = {name: inputs[name] for name in ("teacher", "data")}
    student = go(InitStudent(), {**SHAPE, "init": "static", "vocabularySize": 76}, given, tmp_path / "student")[0]
    with pytest.raises(SpecError, match="one tokenizer") as caught:
        config = {**STAGE, "losses": [{"kind": "hidden-tokens"}]}
        go(Distill(), config, {**inputs, "student": student}, tmp_path / "run")
    assert caught.value.problem.field == "spec.distill.student"
    assert "leave vocabulary out" in caught.value.problem.fix


def imported(source, folder):
    """Import a model of one's own as `student.uri` does, its longest text left to it."""
    ctx = dataclasses.replace(context(folder), source=source)
    config = {"digest": digest_of(source), "task": "sentence-embedding"}
    ImportModel().run(ImportModel.config_type.model_validate(config), {}, ctx)
    return artifact(ctx.out, "torch-model")


def test_a_student_of_ones_own_needs_the_teachers_tokenizer(inputs, tmp_path):
    student = imported(write_bert_folder(tmp_path / "model"), tmp_path / "student")
    config = {**STAGE, "losses": [{"kind": "hidden-tokens"}]}
    with pytest.raises(SpecError, match="one tokenizer") as caught:
        go(Distill(), config, {**inputs, "student": student}, tmp_path / "run")
    assert caught.value.problem.field == "spec.distill.student"
    assert "a uri with the teacher's tokenizer.json" in caught.value.problem.fix


def test_a_student_that_reads_longer_texts_than_its_teacher_is_refused_where_there_are_any(inputs, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):  # its 64 positions, without the teacher's limit of 32
        shutil.copyfile(inputs["teacher"].path / name, folder / name)
    student = imported(folder, tmp_path / "student")
    assert load(student.path).signature.max_length == 64
    long = dataset(tmp_path / "long", text=[*sentences(11, seed=1), " ".join((*WORDS, *WORDS)[:40])])
    config = {**STAGE, "losses": [{"kind": "hidden-tokens"}], "epochs": 1, "maxLength": None}
    with pytest.raises(SpecError, match="longer texts than its teacher") as caught:
        go(Distill(), config, {**inputs, "student": student, "data": long}, tmp_path / "refused")
    problem = caught.value.problem
    assert (problem.field, problem.found, problem.allowed) == ("spec.distill.maxLength", "42 tokens", "at most 32")
    assert problem.fix == "maxLength: 32"
    _, facts = go(Distill(), {**config, "maxLength": 32}, {**inputs, "student": student, "data": long}, tmp_path / "cut")
    assert (facts["truncated_rows"], facts["truncated_tokens"]) == (1, 10)
    short = dataset(tmp_path / "short", text=sentences(11, seed=1))
    go(Distill(), config, {**inputs, "student": student, "data": short}, tmp_path / "short-run")
