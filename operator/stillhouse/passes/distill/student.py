"""The student before training: its shape, its vocabulary, its first weights."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from stillhouse.digests import file_digest
from stillhouse.errors import SpecError
from stillhouse.inference.signature import Signature
from stillhouse.inference.text import TOKENIZER_FILE
from stillhouse.passes.base import Artifact, Context, Pass
from stillhouse.passes.distill.bag import RARE
from stillhouse.passes.distill.checkpoint import seed_everything
from stillhouse.passes.distill.config import CamelConfig
from stillhouse.passes.distill.fit import fit_projection, sample_rows
from stillhouse.passes.distill.residual import ResidualPlan, check_teacher, make_residual, wanted_of
from stillhouse.passes.distill.rows import Rows, Texts, encode_texts
from stillhouse.passes.distill.shrink import INTERMEDIATE_NAMES, chosen_layers, shape_of, shrink
from stillhouse.passes.distill.static import reduce, token_vectors
from stillhouse.passes.distill.vocabulary import Trimmed, trim
from stillhouse.passes.models import factory as factories
from stillhouse.passes.models.architecture import Architecture, FactoryCall
from stillhouse.passes.models.artifact import load, save
from stillhouse.passes.models.network import Network, count_parameters
from stillhouse.passes.models.shapes import ResidualShape

__all__ = ["InitStudent", "StudentConfig", "StudentFacts"]

Init = Literal["static", "svd", "layers", "random"]
# Ids that a Hugging Face configuration carries and that move when the vocabulary is trimmed.
_ID_FIELDS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id", "unk_token_id")


class StudentConfig(CamelConfig):
    """The student's shape; what is left out is the teacher's, or follows from the width."""

    architecture: Literal["encoder", "residual"] = "encoder"
    hidden_layers: int | None = Field(default=None, ge=1)
    hidden_size: int | None = Field(default=None, ge=1)
    intermediate_size: int | None = Field(default=None, ge=1)
    attention_heads: int | None = Field(default=None, ge=1)
    init: Init | None = None
    vocabulary_size: int | None = Field(default=None, ge=1)
    max_length: int | None = Field(default=None, ge=1)
    factory: FactoryCall | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class StudentFacts:
    """What the student is.

    `init_kept`: share of variance (static) or energy (svd) that the narrower width keeps. `init_cosine`: mean cosine of its
    embeddings to the teacher's before training, on texts that its projection was not fitted to.
    `rarity`: a of the weights a / (a + p) that a residual student's tokens have, p being their share of `tokens_after`
    (0 for other students).

    `unknown_before`, `unknown_after`: share of the data's tokens that the vocabulary does not know; `tokens_before`,
    `tokens_after`: how many tokens the data has (a trimmed vocabulary cuts rare words into more pieces).
    """

    init: str
    layers: tuple[int, ...]
    init_kept: float
    init_cosine: float
    hidden_layers: int
    hidden_size: int
    intermediate_size: int
    attention_heads: int
    parameters: int
    parameters_without_embeddings: int
    vocabulary_before: int
    vocabulary_after: int
    tokens_before: int
    tokens_after: int
    unknown_before: float
    unknown_after: float
    seed: int
    architecture: str = "encoder"
    rarity: float = 0.0


class InitStudent(Pass[StudentConfig, StudentFacts]):
    """Make the student of a teacher: a smaller network of the same family, or a Python function's."""

    name: ClassVar[str] = "student"
    version: ClassVar[int] = 2
    kind: ClassVar[str] = "torch-model"
    config_type = StudentConfig

    def run(self, config: StudentConfig, inputs: Mapping[str, Artifact], ctx: Context) -> StudentFacts:
        """Fill `ctx.out` with a torch-model artifact.

        Raises:
            SpecError: the shape does not fit itself or the teacher.
            DataError: the data has no rows, or the teacher's outputs belong to other rows.
        """
        torch.set_num_threads(ctx.threads)
        seed_everything(config.seed)
        ctx.progress.update(0, None, "", "loading the teacher")
        teacher_folder = inputs["teacher"].path
        teacher = load(teacher_folder)
        if config.factory is not None:
            return _from_factory(config, teacher, teacher_folder, ctx)
        if teacher.config is None or teacher.signature.task == "image-classification":
            raise SpecError(
                "a student's shape can be given for a Hugging Face text model only",
                field="spec.distill.student",
                found=f"a teacher of kind {teacher.architecture.kind} for {teacher.signature.task}",
                fix="give the student as a factory (module:function) or as a model of its own (uri)",
            )
        if config.architecture == "residual":
            check_teacher(teacher)
        vocabulary = _Vocabulary(teacher, teacher_folder, Rows(inputs["data"].path), config, ctx)
        if config.architecture == "residual":
            return _residual(config, teacher, vocabulary, inputs.get("outputs"), ctx)
        network, layers, kept, init = _initialised(config, teacher, vocabulary, ctx)
        tokenizer = vocabulary.write(ctx.scratch / TOKENIZER_FILE)
        signature = dataclasses.replace(
            network.signature, pad_id=vocabulary.new_id(teacher.signature.pad_id), tokenizer_digest=file_digest(tokenizer)
        )
        network.signature = signature
        closeness = 0.0
        if network.projection is not None and init != "random":
            closeness = vocabulary.fit(network, teacher, tokenizer.parent)
        save(network, ctx.out, tokenizer=tokenizer)
        shape = shape_of(network.config)
        total, without = count_parameters(network)
        tokens, unknown = vocabulary.after(ctx.out, signature)
        return StudentFacts(
            init=init,
            layers=layers,
            init_kept=round(kept, 6),
            init_cosine=round(closeness, 6),
            hidden_layers=shape.layers,
            hidden_size=shape.hidden,
            intermediate_size=shape.intermediate,
            attention_heads=shape.heads,
            parameters=total,
            parameters_without_embeddings=without,
            vocabulary_before=vocabulary.before,
            vocabulary_after=len(vocabulary.kept),
            tokens_before=vocabulary.tokens,
            tokens_after=tokens,
            unknown_before=vocabulary.unknown,
            unknown_after=unknown,
            seed=config.seed,
        )


_FIT_TOKENS = 64  # a bag of words is settled by a text's beginning; longer ones cost the teacher time


class _Vocabulary:
    """The teacher's tokenizer, how often the data uses each token, and what is left after trimming."""

    def __init__(self, teacher: Network, folder: Path, rows: Rows, config: StudentConfig, ctx: Context) -> None:
        self._texts = rows.training_texts()
        self._limit = config.max_length or teacher.signature.max_length
        self._progress = ctx.progress
        self._tokenizer: dict[str, Any] = json.loads((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
        self.before = int(teacher.config.vocab_size)
        encoded = encode_texts(self._texts, folder, teacher.signature, self._limit, ctx.progress)
        self._all_counts = np.bincount(encoded.ids, minlength=self.before)
        self.tokens = len(encoded.ids)
        self.unknown = self._share(self._all_counts, self._tokenizer)
        self._trimmed: Trimmed | None = None
        if config.vocabulary_size is not None and config.vocabulary_size < self.before:
            self._trimmed = trim(self._tokenizer, self._all_counts.tolist(), config.vocabulary_size)
        self._source = folder / TOKENIZER_FILE
        # Whole vocabularies keep every row of the table: some models pad it beyond the last token.
        self.kept = torch.tensor(self._trimmed.kept if self._trimmed else range(self.before), dtype=torch.int64)
        self.counts = torch.from_numpy(self._all_counts)[self.kept]
        self.folder = folder
        self.texts = self._texts
        self.limit = self._limit
        self.around = _special_tokens(folder, encoded)
        special = {int(token["id"]) for token in self._tokenizer.get("added_tokens", []) if token.get("special")}
        self.special = torch.tensor([number in special for number in self.kept.tolist()])
        self._folder = folder

    def new_id(self, old: int) -> int:
        """Return where an id of the teacher's went; 0 when it is gone."""
        return old if self._trimmed is None else self._trimmed.new_ids.get(old, 0)

    def write(self, path: Path) -> Path:
        """Write the student's tokenizer.json; return where it is (the teacher's own when nothing was trimmed)."""
        if self._trimmed is None:
            return self._source
        path.write_text(json.dumps(self._trimmed.tokenizer, ensure_ascii=False), encoding="utf-8")
        return path

    def fit(self, network: Network, teacher: Network, own: Path) -> float:
        """Fit the student's projection to the teacher's answers about a sample of the texts (see `fit.py`)."""
        sample = [self._texts[row] for row in sample_rows(len(self._texts))]
        limit = min(self._limit, _FIT_TOKENS)
        mine = encode_texts(sample, own, network.signature, limit)
        theirs = encode_texts(sample, self._folder, teacher.signature, limit)
        return fit_projection(network, teacher, mine, theirs, self._progress)

    def after(self, folder: Path, signature: Signature) -> tuple[int, float]:
        """Tokenise the data again: tokens, and the share of them that is unknown."""
        if self._trimmed is None:
            return self.tokens, self.unknown
        encoded = encode_texts(self._texts, folder, signature, self._limit, self._progress)
        return len(encoded.ids), self._share(np.bincount(encoded.ids, minlength=1), self._trimmed.tokenizer)

    @staticmethod
    def _share(counts: npt.NDArray[np.int64], tokenizer: dict[str, Any]) -> float:
        model = tokenizer["model"]
        number = model.get("unk_id") if model["type"] == "Unigram" else model["vocab"].get(model.get("unk_token"))
        if number is None or number >= len(counts):
            return 0.0
        return round(float(counts[number]) / max(1, int(counts.sum())), 8)


def _special_tokens(folder: Path, encoded: Texts) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer puts before and behind a text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    ids = list(tokenizer.encode("").ids)
    if not encoded.count:
        return ids[:1], ids[1:]
    # The empty text's special tokens stand around the text's own: what the first text begins with comes before.
    first = encoded.ids[encoded.starts[0] : encoded.starts[1]].tolist()
    before = 0
    while before < len(ids) and before < len(first) and first[before] == ids[before]:
        before += 1
    return ids[:before], ids[before:]


def _initialised(
    config: StudentConfig, teacher: Network, vocabulary: _Vocabulary, ctx: Context
) -> tuple[Network, tuple[int, ...], float, Init]:
    shape_config = _student_config(config, teacher, vocabulary)
    large, small = shape_of(teacher.config), shape_of(shape_config)
    same = small.hidden == large.hidden
    pools = teacher.architecture.pooling is not None
    init: Init = config.init or ("layers" if same else "static" if pools else "svd")
    _check(init, large.hidden, small.hidden, small.layers, large.layers, pools)
    body = type(teacher.body)._from_config(shape_config, attn_implementation="sdpa")
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
    limit = min(filter(None, (config.max_length, teacher.signature.max_length)), default=0)
    signature = dataclasses.replace(teacher.signature, max_length=limit)
    network = Network(body, architecture, signature, projection)
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
        vectors = token_vectors(_without_head(teacher), vocabulary.kept, vocabulary.around, ctx.progress)
        static = reduce(vectors, vocabulary.counts, vocabulary.special, small.hidden, config.seed)
        kept = static.kept
        _set_tables(body, static.tokens)
    return network, layers, kept, init


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


def _student_config(config: StudentConfig, teacher: Network, vocabulary: _Vocabulary) -> Any:
    made = copy.deepcopy(teacher.config)
    large = shape_of(teacher.config)
    hidden = config.hidden_size or large.hidden
    same = hidden == large.hidden
    heads = config.attention_heads or (large.heads if same else max(1, hidden // 32))
    _check_heads(hidden, heads)
    made.hidden_size = hidden
    made.num_hidden_layers = config.hidden_layers or large.layers
    made.num_attention_heads = heads
    inner = next((name for name in INTERMEDIATE_NAMES if getattr(made, name, None)), INTERMEDIATE_NAMES[0])
    setattr(made, inner, config.intermediate_size or (large.intermediate if same else 4 * hidden))
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


def _check_heads(hidden: int, heads: int) -> None:
    if hidden % heads:
        raise SpecError(
            "the width is not a multiple of the attention heads",
            field="spec.distill.student.attentionHeads",
            found=f"{hidden} / {heads}",
            allowed="a divisor of hiddenSize",
            fix=f"attentionHeads: {max(n for n in range(1, heads + 1) if hidden % n == 0)}",
        )


def _check(init: str, large: int, small: int, small_layers: int, large_layers: int, pools: bool) -> None:
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


def _embeddings_name(body: nn.Module) -> str:
    table = body.get_input_embeddings().weight
    return str(next(name for name, value in body.named_parameters() if value is table))


def _residual(
    config: StudentConfig, teacher: Network, vocabulary: _Vocabulary, outputs: Artifact | None, ctx: Context
) -> StudentFacts:
    large = shape_of(teacher.config)
    hidden = config.hidden_size or large.hidden
    heads = config.attention_heads or max(1, hidden // 32)
    _check_heads(hidden, heads)
    limit = min(filter(None, (config.max_length, teacher.signature.max_length)), default=512)
    shape = ResidualShape(
        vocabulary=len(vocabulary.kept),
        dimension=teacher.signature.dimension,
        hidden_size=hidden,
        layers=config.hidden_layers or large.layers,
        heads=heads,
        intermediate_size=config.intermediate_size or 4 * hidden,
        max_length=limit,
    )
    tokenizer = vocabulary.write(ctx.scratch / TOKENIZER_FILE)
    signature = dataclasses.replace(
        teacher.signature,
        max_length=limit,
        pad_id=vocabulary.new_id(teacher.signature.pad_id),
        tokenizer_digest=file_digest(tokenizer),
    )
    plan = ResidualPlan(
        shape, signature, tokenizer.parent, vocabulary.kept, vocabulary.special, vocabulary.around, vocabulary.texts
    )
    answers = wanted_of(
        teacher, vocabulary.folder, vocabulary.texts, limit, None if outputs is None else outputs.path, ctx.progress
    )
    network, closeness = make_residual(plan, teacher, answers, ctx.progress)
    save(network, ctx.out, tokenizer=tokenizer)
    total, without = count_parameters(network)
    tokens, unknown = vocabulary.after(ctx.out, network.signature)
    return StudentFacts(
        init="static",
        layers=(),
        init_kept=1.0,
        init_cosine=round(closeness, 6),
        hidden_layers=shape.layers,
        hidden_size=hidden,
        intermediate_size=shape.intermediate_size,
        attention_heads=heads,
        parameters=total,
        parameters_without_embeddings=without,
        vocabulary_before=vocabulary.before,
        vocabulary_after=len(vocabulary.kept),
        tokens_before=vocabulary.tokens,
        tokens_after=tokens,
        unknown_before=vocabulary.unknown,
        unknown_after=unknown,
        seed=config.seed,
        architecture="residual",
        rarity=RARE,
    )


def _from_factory(config: StudentConfig, teacher: Network, folder: Path, ctx: Context) -> StudentFacts:
    assert config.factory is not None
    if config.vocabulary_size is not None:
        raise SpecError(
            "a factory's network has its own vocabulary",
            field="spec.distill.student.vocabulary",
            fix="leave vocabulary out, and build the embeddings that the factory needs",
        )
    body = factories.call(config.factory)
    if not isinstance(body, nn.Module):
        raise SpecError(
            "the factory did not return a torch.nn.Module",
            field="spec.distill.student.factory",
            found=type(body).__name__,
            allowed="torch.nn.Module",
        )
    limit = min(filter(None, (config.max_length, teacher.signature.max_length)), default=0)
    text = teacher.signature.task != "image-classification"
    inputs = ("input_ids", "attention_mask") if text else teacher.signature.inputs
    signature = dataclasses.replace(teacher.signature, max_length=limit, inputs=inputs)
    normalize = teacher.signature.task == "sentence-embedding"
    network = Network(body, Architecture(kind="factory", factory=config.factory, normalize=normalize), signature)
    _try_out(network, config.factory.target)
    tokenizer = folder / TOKENIZER_FILE if text else None
    save(network, ctx.out, tokenizer=tokenizer)
    total, without = count_parameters(network)
    return StudentFacts(
        init="factory",
        layers=(),
        init_kept=1.0,
        init_cosine=0.0,
        hidden_layers=0,
        hidden_size=0,
        intermediate_size=0,
        attention_heads=0,
        parameters=total,
        parameters_without_embeddings=without,
        vocabulary_before=0,
        vocabulary_after=0,
        tokens_before=0,
        tokens_after=0,
        unknown_before=0.0,
        unknown_after=0.0,
        seed=config.seed,
    )


def _try_out(network: Network, target: str) -> None:
    """Call a factory's network once: a wrong shape is cheaper to find now than after an hour of the teacher's work."""
    signature = network.signature
    example: tuple[Tensor, ...]
    if signature.image is not None:
        example = (torch.zeros(2, signature.image.channels, signature.image.height, signature.image.width),)
    else:
        ids = torch.full((2, 4), signature.pad_id, dtype=torch.int64)
        example = (ids, torch.ones_like(ids))
    network.eval()
    try:
        with torch.no_grad():
            shape = list(network(*example).shape)
    except Exception as error:
        raise SpecError(
            f"the factory's network cannot be called: {type(error).__name__}",
            field=target,
            found=str(error),
            allowed=f"inputs {', '.join(signature.inputs)} of shapes {[list(t.shape) for t in example]}",
        ) from error
    wanted = [2, len(signature.labels) or signature.dimension]
    if shape != wanted:
        raise SpecError("the factory's network gives another shape", field=target, found=str(shape), allowed=str(wanted))
