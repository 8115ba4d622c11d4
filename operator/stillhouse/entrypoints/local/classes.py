"""What a file says of a model's labels, held against the labels themselves where they are known before anything is imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from stillhouse.api.loss import Loss
from stillhouse.api.model import Spec
from stillhouse.errors import SpecError, StillhouseError
from stillhouse.planning.manifest import LOSSES
from stillhouse.planning.teaching import too_many_logits

__all__ = ["misnamed"]


def misnamed(spec: Spec, config: Mapping[str, Any] | None) -> Iterator[StillhouseError]:
    """Yield what does not fit the labels: `source.labels`, else `id2label` of the model's `config`, None where it is not here."""
    distill, labels = spec.distill, _labels(spec, config)
    if distill is None or not labels:
        return
    asked = False
    for place, learner in distill.learners():
        for number, stage in enumerate(learner.stages):
            for which, loss in enumerate(stage.losses):
                asked = asked or LOSSES[loss.kind].reads == "logits"
                yield from _weights(loss, labels, f"{place}.stages[{number}].losses[{which}].classWeights.byLabel")
    if distill.top_logits is not None and asked:
        many = too_many_logits(distill.top_logits, len(labels))
        if many is not None:
            yield many


def _labels(spec: Spec, config: Mapping[str, Any] | None) -> Sequence[str]:
    """Return the labels, none where there is no telling: a source that is fine-tuned gets those of its data."""
    from stillhouse.passes.sources.labels import label_order

    if spec.source.task == "sentence-embedding":
        return ()
    if spec.source.labels or config is None or spec.source.fine_tune is not None or spec.source.factory is not None:
        return spec.source.labels
    try:
        return label_order(config, ())
    except StillhouseError:  # told of the source itself
        return ()


def _weights(loss: Loss, labels: Sequence[str], field: str) -> Iterator[StillhouseError]:
    given = loss.class_weights.by_label if loss.class_weights is not None else None
    if given is None:
        return
    unknown = [label for label in given if label not in labels]
    if unknown:
        yield SpecError(
            "a weight for a label that the model does not have",
            field=field,
            found=", ".join(unknown[:12]),
            allowed=", ".join(labels[:12]) + (", …" if len(labels) > 12 else ""),
            fix="mend its name, or remove it",
        )
    elif all(label in given and not Decimal(given[label]) for label in labels):
        yield SpecError(
            "every label has weight 0: nothing would be learned of labels",
            field=field,
            found=", ".join(f"{label}: {weight}" for label, weight in list(given.items())[:12]),
            allowed="more than 0 for at least one label",
            fix='give one of them a weight; or, to leave the labels out, remove the loss hard, or write alpha: "1" of logits',
        )
