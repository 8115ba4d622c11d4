"""`import-model`: bring a model into the store, as data that every later step can trust."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from stillhouse.api.source import TEXT_TASKS
from stillhouse.errors import SourceError
from stillhouse.inference.signature import Signature, Task
from stillhouse.inference.text import TOKENIZER_FILE
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.models import factory as factories
from stillhouse.passes.models.architecture import Architecture, FactoryCall
from stillhouse.passes.sources.architecture import check_tensors, pooling_of, read_config, write_config
from stillhouse.passes.sources.folder import SourceFolder, copy_file
from stillhouse.passes.sources.labels import check_outputs, label_order, licence_of
from stillhouse.passes.sources.limits import FeaturesConfig, ImageConfig, Part, chosen_max_length, feature_spec, image_spec
from stillhouse.passes.sources.numbers import check_sizes, table_rows, width_of
from stillhouse.passes.sources.pinned import readable, refuse_changed
from stillhouse.passes.sources.tokenizer import TokenizerInfo, inspect_tokenizer
from stillhouse.passes.sources.weights import WEIGHTS_FILE, Tensor, gather, refuse_pickles

__all__ = ["FactoryConfig", "ImageConfig", "ImportModel", "ImportModelConfig", "ModelFacts"]


class FactoryConfig(Part):
    """A Python function that returns a `torch.nn.Module`: `module:function`, keyword arguments, its file's digest as planned."""

    target: str
    arguments: dict[str, str | bool | int] = Field(default_factory=dict)
    digest: str | None = None


class ImportModelConfig(PassConfig):
    """Configuration of `import-model`; see docs/design/20261122-contracts.md, section 7."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    digest: str
    task: Task
    max_length: int | None = None
    labels: tuple[str, ...] | None = None
    image: ImageConfig | None = None
    features: FeaturesConfig | None = None
    factory: FactoryConfig | None = None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What was imported.

    `kind` is the kind of the artifact (torch-model or onnx-model), `source_digest` what the URI pointed to, `parameters`
    the number of weights, `max_length` where texts are cut (tokens), `published_max_length` where the model's authors cut
    them, `truncation` the side that is cut, `licence` what the folder states ("" when nothing).
    """

    kind: str
    source_digest: str
    architecture: str
    parameters: int
    dimension: int
    labels: tuple[str, ...]
    max_length: int
    published_max_length: int
    truncation: str
    tokenizer_digest: str
    vocabulary: int
    pooling: str
    normalized_at_source: bool
    licence: str
    dtypes: tuple[str, ...]


class ImportModel(Pass[ImportModelConfig, ModelFacts]):
    """Safetensors, config.json and tokenizer.json → `torch-model`; a .onnx file and tokenizer.json → `onnx-model`."""

    name = "import-model"
    version = 1
    kind = "torch-model"
    config_type = ImportModelConfig

    def kind_of(self, out: Path) -> str:
        """Tell by the files: an ONNX source stays ONNX."""
        return "onnx-model" if (out / "model.onnx").is_file() else self.kind

    def run(self, config: ImportModelConfig, inputs: Mapping[str, Artifact], ctx: Context) -> ModelFacts:
        """Check `ctx.source` and write the artifact; `facts.kind` says which kind it became.

        Raises:
            UnsafeSource: reading it could run code or reach outside its folder.
            SourceError: files are missing, damaged or not to be read, or do not fit each other or the task.
            MissingPackages: torch, transformers or onnx is not installed.
        """
        if ctx.source is None or not ctx.source.exists():
            raise SourceError("the source is gone", field="source.uri", found=str(ctx.source), fix="run the command again")
        with readable(ctx, "source.uri"):
            facts = _import(config, ctx.source, ctx)
            ctx.progress.update(0, None, "", "reading the source again: has it changed meanwhile?")
            refuse_changed(ctx.source, config.digest, "source.uri")
        return facts


def _import(config: ImportModelConfig, source: Path, ctx: Context) -> ModelFacts:
    if source.is_file() and source.suffix == ".onnx":
        return _onnx(config, SourceFolder.open(source.parent), source.name, ctx)
    folder = SourceFolder.open(source)
    graphs = [name for name in sorted(folder.files) if name.endswith(".onnx")]
    if not folder.top(".safetensors") and not folder.has(f"{WEIGHTS_FILE}.index.json") and graphs:
        if len(graphs) > 1:
            raise SourceError(
                "there are several ONNX files",
                field="source.uri",
                found=", ".join(graphs[:8]),
                allowed="one",
                fix=f"name one of them: …/{graphs[0]}",
            )
        return _onnx(config, folder, graphs[0], ctx)
    refuse_pickles(folder)
    if config.factory is not None:
        return _factory(config, config.factory, folder, ctx)
    if config.task == "image-classification":
        return _image(config, folder, ctx)
    if config.features is not None:
        raise SourceError(
            f"no model of task {config.task} is known by its config.json",
            field="source.uri",
            found="safetensors without a factory",
            allowed="an ONNX file, or the weights of a network that source.factory builds",
            fix="name the .onnx file, or write factory: {target: module:function}",
        )
    return _text(config, folder, ctx)


def _text(config: ImportModelConfig, folder: SourceFolder, ctx: Context) -> ModelFacts:
    model = read_config(folder)
    embedding = config.task == "sentence-embedding"
    labels = () if embedding else label_order(model, config.labels)
    tensors = _weights(folder, ctx, model, labels)
    rows = model.get("vocab_size")
    tokenizer = inspect_tokenizer(folder, model, rows if isinstance(rows, int) else table_rows(tensors))
    length, published = chosen_max_length(config.max_length, folder, model)
    pooling = pooling_of(folder)
    signature = Signature(
        task=config.task,
        inputs=("input_ids", "attention_mask"),
        output="sentence_embedding" if embedding else "logits",
        dimension=width_of(model) if embedding else len(labels),
        labels=labels,
        max_length=length,
        pad_id=tokenizer.pad_id,
        tokenizer_digest=tokenizer.digest,
    )
    architecture = Architecture(kind="hf-classifier")
    pooled = embedding
    if not embedding and folder.has("modules.json"):
        # A sentence encoder with a linear head, fitted on its pooled states: few labels are enough for that.
        pooled = True
        architecture = Architecture(
            kind="hf-classifier", pooling=pooling.mode, projection=len(labels), normalize=pooling.normalize
        )
    if embedding:
        # The wire contract promises unit vectors, so those are normalised as well that the source leaves as they are.
        architecture = Architecture(kind="hf-encoder", pooling=pooling.mode, normalize=True)
    copy_file(folder.path(TOKENIZER_FILE), ctx.out / TOKENIZER_FILE)
    write_config(folder, model, ctx.out)
    _describe(ctx, architecture, signature, tensors)
    return _facts(
        config, folder, signature, str(model["model_type"]), tensors,
        tokenizer=tokenizer, published=published,
        pooling=pooling.mode if pooled else "", normalized=pooled and pooling.normalize,
    )  # fmt: skip


def _image(config: ImportModelConfig, folder: SourceFolder, ctx: Context) -> ModelFacts:
    model = read_config(folder)
    labels = label_order(model, config.labels)
    tensors = _weights(folder, ctx, model, labels)
    signature = _array_signature(config, labels)
    write_config(folder, model, ctx.out)
    _describe(ctx, Architecture(kind="hf-classifier"), signature, tensors)
    return _facts(config, folder, signature, str(model["model_type"]), tensors)


def _factory(config: ImportModelConfig, factory: FactoryConfig, folder: SourceFolder, ctx: Context) -> ModelFacts:
    tensors = _weights(folder, ctx)
    tokenizer: TokenizerInfo | None = None
    published = 0
    if config.task not in TEXT_TASKS:
        signature = _array_signature(config, label_order({}, config.labels))
    else:
        tokenizer = inspect_tokenizer(folder, {}, None)
        copy_file(folder.path(TOKENIZER_FILE), ctx.out / TOKENIZER_FILE)
        embedding = config.task == "sentence-embedding"
        labels = () if embedding else label_order({}, config.labels)
        length, published = chosen_max_length(config.max_length, folder, {})
        signature = Signature(
            task=config.task,
            inputs=("input_ids", "attention_mask"),
            output="sentence_embedding" if embedding else "logits",
            dimension=_factory_dimension(factory) if embedding else len(labels),
            labels=labels,
            max_length=length,
            pad_id=tokenizer.pad_id,
            tokenizer_digest=tokenizer.digest,
        )
    digest = factory.digest or factories.source_digest(factory.target)
    call = FactoryCall(target=factory.target, arguments=factory.arguments, digest=digest)
    architecture = Architecture(kind="factory", factory=call, normalize=config.task == "sentence-embedding")
    _describe(ctx, architecture, signature, tensors)
    return _facts(config, folder, signature, factory.target, tensors, tokenizer=tokenizer, published=published)


def _factory_dimension(factory: FactoryConfig) -> int:
    dimension = factory.arguments.get("dimension")
    if isinstance(dimension, int) and not isinstance(dimension, bool) and dimension > 0:
        return dimension
    raise SourceError(
        "the width of the factory's embeddings is not known",
        field="source.factory.arguments.dimension",
        found=str(dimension),
        allowed="a whole number above 0, passed to the factory as its keyword argument",
        fix="add dimension to source.factory.arguments",
    )


def _onnx(config: ImportModelConfig, folder: SourceFolder, name: str, ctx: Context) -> ModelFacts:
    from stillhouse.passes.sources.onnx_model import import_onnx  # onnx is an extra; a safetensors model needs none

    imported = import_onnx(config, folder, name, ctx)
    published = imported.published_max_length
    facts = _facts(config, folder, imported.signature, "onnx", {}, tokenizer=imported.tokenizer, published=published)
    values = {field: getattr(facts, field) for field in ModelFacts.__dataclass_fields__}
    return ModelFacts(**{**values, "kind": "onnx-model", "parameters": imported.parameters, "dtypes": imported.dtypes})


def _describe(ctx: Context, architecture: Architecture, signature: Signature, tensors: Mapping[str, Tensor]) -> None:
    ctx.progress.update(0, None, "", "checking that the weights fit the architecture")  # imports torch and transformers
    architecture.write(ctx.out)
    signature.write(ctx.out)
    check_tensors(ctx.out, architecture, signature, tensors)


def _weights(
    folder: SourceFolder, ctx: Context, model: Mapping[str, Any] | None = None, labels: Sequence[str] = ()
) -> Mapping[str, Tensor]:
    """Copy the weights, after they were held against config.json (`model`; a factory has none) and the labels."""

    def check(tensors: Mapping[str, Tensor]) -> None:
        if model is not None:
            check_sizes(model, tensors)
        if model is not None and labels:
            check_outputs(labels, tensors)

    def report(done: int, total: int) -> None:
        ctx.progress.update(done, total, "bytes", "copying weights")

    tensors = gather(folder, ctx.out / WEIGHTS_FILE, report, check)
    ctx.progress.update(0, None, "", "reading configuration and tokenizer")
    return tensors


def _array_signature(config: ImportModelConfig, labels: tuple[str, ...]) -> Signature:
    return Signature(
        task=config.task,
        inputs=("pixel_values" if config.image is not None else "features",),
        output="logits",
        dimension=len(labels),
        labels=labels,
        image=image_spec(config.image),
        features=feature_spec(config.features),
    )


def _facts(
    config: ImportModelConfig,
    folder: SourceFolder,
    signature: Signature,
    architecture: str,
    tensors: Mapping[str, Tensor],
    *,
    tokenizer: TokenizerInfo | None = None,
    published: int = 0,
    pooling: str = "",
    normalized: bool = False,
) -> ModelFacts:
    return ModelFacts(
        kind="torch-model",
        source_digest=config.digest,
        architecture=architecture,
        parameters=sum(math.prod(tensor.shape) for tensor in tensors.values()),
        dimension=signature.dimension,
        labels=signature.labels,
        max_length=signature.max_length,
        published_max_length=published,
        truncation="right" if tokenizer else "",
        tokenizer_digest=signature.tokenizer_digest,
        vocabulary=tokenizer.rows if tokenizer else 0,
        pooling=pooling,
        normalized_at_source=normalized,
        licence=licence_of(folder),
        dtypes=tuple(sorted({tensor.dtype for tensor in tensors.values()})),
    )
