"""The simple rivals: what a task's table must always show beside teacher and student.

BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework"; the `bm25s` library, Lucene's variant) for
search, TF-IDF over words and characters with a linear support vector machine for topics.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["bm25_ranks", "linear_svc"]

Ranks = npt.NDArray[np.int64]


def bm25_ranks(queries: Sequence[str], documents: Sequence[str], block: int = 512) -> Ranks:
    """Find the place of document i for query i by BM25 (k1 1.5, b 0.75, English stop words, no stemming).

    Documents with equal scores (most often zero: no word in common) share the worst of their places.

    Returns:
        int64 [rows], 1 for the best place.
    """
    import bm25s

    model = bm25s.BM25()
    model.index(bm25s.tokenize(list(documents), stopwords="en", show_progress=False), show_progress=False)
    tokenized = bm25s.tokenize(list(queries), stopwords="en", show_progress=False, return_ids=False)
    found = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), block):
        for offset, tokens in enumerate(tokenized[start : start + block]):
            scores = model.get_scores(tokens) if tokens else np.zeros(len(documents), dtype=np.float32)
            found[start + offset] = int((scores >= scores[start + offset]).sum())
    return found


def linear_svc(texts: Sequence[str], labels: Sequence[str], asked: Sequence[str], seed: int = 0) -> list[str]:
    """Labels by TF-IDF of words (1 to 2) and characters (2 to 5, within words) and a linear support vector machine.

    Args:
        texts: training texts.
        labels: their labels.
        asked: texts to be labelled.
        seed: of the solver.

    Returns:
        One label for each asked text.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    model = make_pipeline(make_union(words, characters), LinearSVC(random_state=seed))
    model.fit(list(texts), list(labels))
    return [str(label) for label in model.predict(list(asked))]
