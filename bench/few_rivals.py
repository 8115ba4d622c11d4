"""What stands beside the student of `docstring-topics-few`: a bag of words taught the same, and the ceiling of agreement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from stillhouse.passes.base import SilentProgress
from stillhouse.passes.distill.rows import encode_texts
from stillhouse.passes.distill.validation import outputs_of
from stillhouse.passes.models.artifact import load

__all__ = ["agreement_ceiling", "bag_of_words"]

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


def pooled_states(teacher: Path, texts: list[str]) -> npt.NDArray[np.float32]:
    """Give what the head of a pooled classifier reads: float32 [texts, width]."""
    network = load(teacher)
    network.projection = None
    states: torch.Tensor = outputs_of(network, encode_texts(texts, teacher, network.signature, None), SilentProgress(), "reading")
    found: npt.NDArray[np.float32] = states.numpy()
    return found


def agreement_ceiling(teacher: Path, texts: list[str], labels: Sequence[str], asked: list[str]) -> float:
    """How often the teacher's own head, refitted on 90 % of its labels, says what it says: the mean of five draws.

    Args:
        teacher: the imported teacher's folder.
        texts: the few labelled texts.
        labels: their labels.
        asked: the texts on which both are compared.
    """
    from sklearn.linear_model import LogisticRegression

    states, others = pooled_states(teacher, texts), pooled_states(teacher, asked)
    truth = np.array(labels)
    whole = LogisticRegression(C=STRENGTH, max_iter=3000).fit(states, truth).predict(others)
    rng = np.random.default_rng(20261122)
    shares = []
    for _ in range(DRAWS):
        kept = rng.permutation(len(truth))[: round(SHARE * len(truth))]
        again = LogisticRegression(C=STRENGTH, max_iter=3000).fit(states[kept], truth[kept]).predict(others)
        shares.append(float((again == whole).mean()))
    return float(np.mean(shares))
