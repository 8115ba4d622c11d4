"""What stands beside the student of `docstring-topics-few`: a bag of words taught the same, and the ceiling of agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from stillhouse.passes.base import SilentProgress
from stillhouse.passes.distill.encoded import encode_texts
from stillhouse.passes.distill.validation import outputs_of
from stillhouse.passes.models.artifact import load

__all__ = ["Said", "agreement_ceiling", "ask_teacher", "bag_of_words"]

DRAWS, SHARE, STRENGTH = 5, 0.9, 10.0


def bag_of_words(texts: Sequence[str], labels: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Labels by TF-IDF of single words and a logistic regression: a student that does not know word order.

    Args:
        texts: training texts.
        labels: their labels, mostly the teacher's guesses.
        asked: texts to be labelled.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=10.0, max_iter=1000))
    model.fit(list(texts), list(labels))
    return [str(label) for label in model.predict(list(asked))]


@dataclass(frozen=True)
class Said:
    """What a pooled classifier says of texts: `states` float32 [texts, width], which its head reads, and `labels` [texts]."""

    states: npt.NDArray[np.float32]
    labels: npt.NDArray[np.str_]


def ask_teacher(teacher: Path, texts: list[str], message: str) -> Said:
    """Ask the imported teacher; its encoder, which is the work, reads every text once."""
    network = load(teacher)
    head, network.projection = network.projection, None
    assert head is not None, "the teacher of this example is a pooled classifier"
    states = outputs_of(network, encode_texts(texts, teacher, network.signature, None), SilentProgress(), message)
    with torch.inference_mode():
        best = head(states).argmax(1).numpy()
    return Said(states.numpy(), np.array(network.signature.labels)[best])


def agreement_ceiling(few: Said, labels: Sequence[str], asked: Said) -> float:
    """How often the teacher's own head, refitted on 90 % of its labels, says what it says: the mean of five draws.

    Args:
        few: the labelled texts.
        labels: their labels.
        asked: the texts on which both are compared.
    """
    from sklearn.linear_model import LogisticRegression

    truth = np.array(labels)
    rng = np.random.default_rng(20261122)
    shares = []
    for _ in range(DRAWS):
        kept = rng.permutation(len(truth))[: round(SHARE * len(truth))]
        again = LogisticRegression(C=STRENGTH, max_iter=3000).fit(few.states[kept], truth[kept]).predict(asked.states)
        shares.append(float((again == asked.labels).mean()))
    return float(np.mean(shares))
