"""An encoder of the teacher's family: its configuration, and its first weights out of the teacher's."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from stillhouse.api.student import heads_and_neurons
from stillhouse.errors import SpecError
from stillhouse.passes.base import Progress
from stillhouse.passes.distill.shrink import INTERMEDIATE_NAMES, chosen_layers, shape_of, shrink
from stillhouse.passes.distill.static import reduce, token_vectors
from stillhouse.passes.distill.students.config import Init, StudentConfig, check_heads
from stillhouse.passes.distill.students.facts import Student
from stillhouse.passes.distill.students.vocabulary import StudentVocabulary
from stillhouse.passes.models.architecture import Architecture
from stillhouse.passes.models.network import Network

__all__ = ["encoder_student"]

# Ids that a Hugging Face configuration carries and that move when the vocabulary is trimmed.
_ID_FIELDS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id", "unk_token_id")


def encoder_student(config: StudentConfig, teacher: Network, vocabulary: StudentVocabulary, progress: Progress) -> Student:
    """Return the student with its first weights, its projection (if it has one) fitted to the teacher.

    Raises:
        SpecError: the shape does not fit itself, the teacher, or the kind of initialisation.
    """
    shape_config = _student_config(config, teacher, vocabulary)
    large, small = shape_of(teacher.config), shape_of(shape_config)
    same = small.hidden == large.hidden
    pools = teacher.architecture.pooling is not None
    init: Init = config.init or ("layers" if same else "static" if pools else "svd")
    _check_init(init, large.hidden, small.hidden, small.layers, large.layers, pools)
    body = type(teacher.body)._from_config(shape_config)
    if pools and getattr(body, "pooler", None) is not None:
        body.pooler = None
    architecture, projection = teacher.architecture, None
    if pools and (not same or architecture.projection is not None or init == "static"):
        projection = nn.Linear(small.hidden, teacher.signature.dimension)
        # A head that is fitted to the student's own states needs none of unit length.
        normalize = teacher.signature.task == "sentence-embedding"
        architecture = architecture.model_copy(update={"projection": teacher.signature.dimension, "normalize": normalize})
    if init == "static":
        architecture = architecture.model_copy(update={"pooling": "mean"})
    network = Network(body, architecture, vocabulary.signature(config.limit(teacher.signature)), projection)
    network.eval()
    name = _embeddings_name(teacher.body)
    layers: tuple[int, ...] = ()
    kept = 1.0
    if init in {"layers", "svd"}:
        layers = chosen_layers(large.layers, small.layers)
        state: dict[str, Tensor] = body.state_dict()
        made, kept = shrink(teacher.body.state_dict(), state, (large, small), layers, vocabulary.kept, name)
        body.load_state_dict({**state, **made})
    elif init == "static":
        vectors = token_vectors(_without_head(teacher), vocabulary.kept, vocabulary.around, progress)
        static = reduce(vectors, vocabulary.counts, vocabulary.special, small.hidden, config.seed)
        kept = static.kept
        _set_tables(body, static.tokens)
    cosine = vocabulary.fit(network) if projection is not None and init != "random" else 0.0
    return Student(network, init, small, layers, kept, cosine)


def _student_config(config: StudentConfig, teacher: Network, vocabulary: StudentVocabulary) -> Any:
    made = copy.deepcopy(teacher.config)
    large = shape_of(teacher.config)
    hidden = config.hidden_size or large.hidden
    same = hidden == large.hidden
    theirs = (large.heads, large.intermediate) if same else None
    heads, neurons = heads_and_neurons(hidden, config.attention_heads, config.intermediate_size, theirs)
    check_heads(hidden, heads, given=config.attention_heads is not None or same)
    made.hidden_size = hidden
    made.num_hidden_layers = config.hidden_layers or large.layers
    made.num_attention_heads = heads
    inner = next((name for name in INTERMEDIATE_NAMES if getattr(made, name, None)), INTERMEDIATE_NAMES[0])
    setattr(made, inner, neurons)
    made.vocab_size = len(vocabulary.kept)
    for name in _ID_FIELDS:
        if isinstance(getattr(made, name, None), int):
            setattr(made, name, vocabulary.new_id(getattr(made, name)))
    if teacher.architecture.pooling is not None:
        # The teacher's outputs are dense and without noise: a small student under-fits them, and dropout only slows it.
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
            if hasattr(made, name):
                setattr(made, name, 0.0)
    return made


def _check_init(init: str, large: int, small: int, small_layers: int, large_layers: int, pools: bool) -> None:
    if init == "layers" and small != large:
        raise SpecError(
            "init 'layers' keeps whole layers, which needs the teacher's width",
            field="spec.distill.student.init",
            found=f"hiddenSize {small}, the teacher's is {large}",
            allowed="svd, static, random at another width",
            fix=f"init: svd, or hiddenSize: {large}",
        )
    if init == "static" and not pools:
        raise SpecError(
            "init 'static' needs a teacher that pools its tokens' states",
            field="spec.distill.student.init",
            found="a classifier with a head of its own kind",
            allowed="svd, layers, random",
            fix="init: svd",
        )
    if init in {"layers", "svd"} and (small > large or small_layers > large_layers):
        raise SpecError(
            f"init {init!r} cannot make a student larger than its teacher",
            field="spec.distill.student",
            found=f"{small_layers} layers of {small}",
            allowed=f"at most {large_layers} layers of {large}",
            fix="a smaller shape, or init: random",
        )


def _without_head(teacher: Network) -> Network:
    """Return the encoder inside a pooled classifier (one of embeddings is its own): as many numbers as it has, not as labels."""
    if teacher.architecture.kind == "hf-encoder":
        return teacher
    bare = Architecture(kind="hf-encoder", pooling=teacher.architecture.pooling, normalize=True)
    encoder = Network(teacher.body, bare, teacher.signature)
    encoder.eval()
    return encoder


# Root mean square of static token vectors. Layer normalisation undoes any scale; what is left of it is how fast they
# move: AdamW's steps are of one size whatever the weights' own is, so small vectors learn faster.
_STATIC_SCALE = 0.1


def _set_tables(body: nn.Module, tokens: Tensor) -> None:
    """Put in the token vectors; what else is added to them (positions, token types) starts at nothing."""
    words = body.get_input_embeddings()
    with torch.no_grad():
        for module in body.modules():
            if isinstance(module, nn.Embedding):
                module.weight.zero_()
        words.weight.copy_(tokens * _STATIC_SCALE)


def _embeddings_name(body: nn.Module) -> str:
    table = body.get_input_embeddings().weight
    return str(next(name for name, value in body.named_parameters() if value is table))
