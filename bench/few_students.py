"""The students of `bench.few`: the example's own, a narrow transformer, and a bag of tokens, which hardly multiplies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["OWN", "STUDENTS", "FewStudent"]

OWN = "layers"
_EPOCHS = (15, 40)
_RATES = (0.00003, 0.0001, 0.0003, 0.001)
"""For the example's own student and the bag 0.003 and more were far worse on the validation rows."""


@dataclass(frozen=True)
class FewStudent:
    """A student, and what its stage of soft targets has beside the example's."""

    shape: Mapping[str, Any]
    """`spec.distill.student`; empty: the example's own."""
    stage: Mapping[str, Any] = field(default_factory=dict)
    epochs: Sequence[int] = _EPOCHS
    rates: Sequence[float] = _RATES
    """Of the control's trainings: its best must lie inside, or it is a weak one that flatters."""

    @property
    def configurations(self) -> list[dict[str, Any]]:
        """The eight trainings on hard labels alone of which the best on validation is the control."""
        tokens = "embeddingLearningRate" in self.stage  # tuned along: what is good for soft targets of much text need not be here
        return [
            {"epochs": epochs, "learningRate": rate, "batchSize": 32, **({"embeddingLearningRate": 10 * rate} if tokens else {})}
            for epochs in self.epochs
            for rate in self.rates
        ]


STUDENTS = {
    OWN: FewStudent({}),
    # Chosen on fold 0's validation rows with 5 labels a class: of 5 to 30 epochs, 128 and 384 numbers a token, T 2 and 3.
    "mlp": FewStudent(
        {"architecture": "mlp", "hiddenSize": 512, "embeddingSize": 384, "vocabulary": {"maxSize": 16000}},
        {
            "losses": [{"kind": "logits", "temperature": "2", "alpha": "0.9"}],
            "learningRate": "0.001",
            "embeddingLearningRate": "0.03",
            "epochs": 12,
        },
    ),
    # A 26th of the teacher's multiplications. Epochs and rate are a first guess, which was better than the bag on fold 0's
    # validation rows (0.526 to 0.505 right) and was left at that. Its control's best was at the other grid's upper corner.
    "narrow": FewStudent(
        {"hiddenLayers": 2, "hiddenSize": 128, "attentionHeads": 8, "init": "svd", "vocabulary": {"maxSize": 16000}},
        {
            "losses": [{"kind": "logits", "temperature": "3", "alpha": "0.9"}],
            "learningRate": "0.001",
            "epochs": 8,
        },
        epochs=(40, 100),
        rates=(0.0003, 0.001, 0.003, 0.01),
    ),
}
