"""`fine-tune`: a text classifier out of a plain encoder and labelled rows.

A linear head on the encoder's pooled states, which are not normalised (a softmax over unit vectors cannot become sure). All
layers learn, slowly; the head, which begins at random, faster (Howard & Ruder 2018, arXiv:1801.06146, discriminative rates;
rates and epochs of Devlin et al. 2019, arXiv:1810.04805, appendix A.3). The encoder's own dropout is on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn

from stillhouse.errors import DataError, SpecError
from stillhouse.inference.text import TOKENIZER_FILE
from stillhouse.passes.base import Artifact, Context, Pass
from stillhouse.passes.distill.checkpoint import seed_everything
from stillhouse.passes.distill.config import CamelConfig
from stillhouse.passes.distill.encoded import encode_texts
from stillhouse.passes.distill.freezing import Freeze
from stillhouse.passes.distill.loop import LoopSettings, train
from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.losses.hard import HardLoss
from stillhouse.passes.distill.losses.term import Sizes
from stillhouse.passes.distill.objective import Objective, Part
from stillhouse.passes.distill.rows import NO_LABEL, Rows
from stillhouse.passes.distill.step import TrainingSet
from stillhouse.passes.distill.stopping import EarlyStopping
from stillhouse.passes.distill.validation import Validation
from stillhouse.passes.models.architecture import Architecture
from stillhouse.passes.models.artifact import load, save
from stillhouse.passes.models.network import Network, count_parameters
from stillhouse.passes.sources.dataset import read_columns

__all__ = ["FineTune", "FineTuneConfig", "FineTuneFacts"]


class FineTuneConfig(CamelConfig):
    """`labels`: the order of the outputs; None: what the rows have, sorted."""

    labels: tuple[str, ...] | None = None
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    head_learning_rate: float = Field(gt=0)
    warmup: float = Field(ge=0, le=1)
    weight_decay: float = Field(ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    balanced: bool = False
    freeze: Freeze | None = None
    early_stopping: EarlyStopping | None = None
    max_length: int | None = Field(default=None, ge=1)
    checkpoint_steps: int = Field(default=50, ge=1)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FineTuneFacts:
    """How it went, over all attempts.

    `rows` with a label were learned from, `unlabelled` were left out. `validation`: accuracy after each epoch; the result is the
    last one, with early stopping `best_epoch` (else 0).
    """

    labels: tuple[str, ...]
    rows: int
    unlabelled: int
    steps: int
    epochs: int
    curve: tuple[dict[str, Any], ...]
    validation: tuple[float, ...]
    best_epoch: int
    parameters: int
    truncated_rows: int
    samples_per_second: float
    seconds: float
    resumed: int
    seed: int


class FineTune(Pass[FineTuneConfig, FineTuneFacts]):
    """Train the encoder of role `encoder` with a head; checkpoints in `ctx.scratch`, a pooled classifier in `ctx.out`.

    On the CPU with the same number of threads, a run that was interrupted and went on gives the same bytes as one that was not.
    """

    name: ClassVar[str] = "fine-tune"
    version: ClassVar[int] = 1
    kind: ClassVar[str] = "torch-model"
    config_type = FineTuneConfig

    def run(self, config: FineTuneConfig, inputs: Mapping[str, Artifact], ctx: Context) -> FineTuneFacts:
        """Fill `ctx.out` with the torch-model artifact.

        Raises:
            DataError: labels are missing, unknown or all the same, or training goes astray.
            SpecError: the source is no encoder whose states could be pooled.
            KeyboardInterrupt: stopped; a checkpoint lies in `ctx.scratch`.
        """
        torch.set_num_threads(ctx.threads)
        seed_everything(config.seed)
        ctx.progress.update(0, None, "steps", "loading encoder and data")
        folder = inputs["encoder"].path
        encoder = load(folder, role="encoder")
        rows = Rows.of(inputs)
        names = config.labels or _names(rows, inputs["data"].path)
        labels = _labels(rows, names)
        network = _with_head(encoder, names)
        kept = np.flatnonzero(labels != NO_LABEL)
        texts = rows.texts()
        data = encode_texts([texts[row] for row in kept], folder, network.signature, config.max_length, ctx.progress)
        labels = labels[kept]
        validation = None
        if "validation" in inputs:
            held = Rows.of(inputs, "validation")
            _labels(held, names)
            validation = Validation(held, folder, network, folder, config.max_length, ctx)
        loss = LossConfig(
            kind="hard", label_smoothing=config.label_smoothing, class_weights="balanced" if config.balanced else None
        )
        counts = np.bincount(labels, minlength=len(names)).tolist()
        term = HardLoss(loss, Sizes(0, 0, 0, {}, label_rows=dict(zip(names, counts, strict=True))))
        settings = LoopSettings(
            config.epochs,
            config.batch_size,
            config.learning_rate,
            config.warmup,
            config.weight_decay,
            config.checkpoint_steps,
            config.seed,
            freeze=config.freeze,
            early_stopping=config.early_stopping,
            head_learning_rate=config.head_learning_rate,
        )
        result = train(
            network,
            Objective([Part("hard", 1.0, term)]),
            TrainingSet(data, {}, labels, weights=rows.weights(kept)),
            settings,
            ctx.scratch,
            ctx.progress,
            validation,
        )
        save(network, ctx.out, tokenizer=folder / TOKENIZER_FILE)
        return FineTuneFacts(
            labels=tuple(names),
            rows=len(kept),
            unlabelled=rows.count - len(kept),
            steps=result.steps,
            epochs=config.epochs,
            curve=tuple({"step": point.step, "loss": point.loss} for point in result.curve),
            validation=tuple(round(value, 6) for value in result.validation),
            best_epoch=result.best,
            parameters=count_parameters(network)[0],
            truncated_rows=int((data.cut > 0).sum()),
            samples_per_second=round(result.rows / max(1e-9, result.seconds), 2),
            seconds=round(result.seconds, 3),
            resumed=result.resumed,
            seed=config.seed,
        )


def _names(rows: Rows, folder: Path) -> tuple[str, ...]:
    """Return the labels that the rows have, sorted: numbers as numbers.

    Raises:
        DataError: there are fewer than two.
    """
    given = read_columns(folder, ["label"])["label"] if "label" in rows.columns else []
    found = sorted({str(label) for label in given if label})
    if all(label.isdecimal() for label in found):
        found.sort(key=int)
    if len(found) < 2:
        raise DataError(
            "a classifier needs rows of at least two labels",
            field=f"{rows.field}.columns.label",
            found=found[0] if found else "no label",
            fix="name the column: columns: {label: YOUR_COLUMN}",
        )
    return tuple(found)


def _labels(rows: Rows, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the labels' numbers, [rows].

    Raises:
        DataError: there is none, or one that `names` lacks.
    """
    labels = rows.labels(names)
    if labels is None or not (labels != NO_LABEL).any():
        raise DataError(
            "fineTune needs labels",
            field=f"{rows.field}.columns.label",
            found="no label column" if labels is None else "no row has a label",
            fix="name the column: columns: {label: YOUR_COLUMN}",
        )
    return labels


def _with_head(encoder: Network, names: Sequence[str]) -> Network:
    """Return the encoder as a pooled classifier whose head is not trained yet."""
    pooling = encoder.architecture.pooling
    if encoder.architecture.kind != "hf-encoder" or pooling is None:
        raise SpecError(
            "fineTune begins from an encoder whose states are pooled",
            field="spec.source.uri",
            found=f"a network of kind {encoder.architecture.kind}",
            allowed="a Hugging Face encoder",
            fix="leave fineTune out, or name an encoder",
        )
    signature = dataclasses.replace(
        encoder.signature, task="text-classification", output="logits", dimension=len(names), labels=tuple(names)
    )
    architecture = Architecture(kind="hf-classifier", pooling=pooling, projection=len(names))
    return Network(encoder.body, architecture, signature, nn.Linear(encoder.hidden_size, len(names)))
