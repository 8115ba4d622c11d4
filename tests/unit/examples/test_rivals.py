from __future__ import annotations

import pytest
from bench.rivals import bm25_ranks, linear_svc


def test_bm25_finds_shared_words_and_ranks_strangers_last() -> None:
    pytest.importorskip("bm25s")
    queries = ["open a socket", "draw turtle graphics", "zebra"]
    documents = ["binds the socket and opens a port", "the turtle draws lines", "nothing here"]
    assert bm25_ranks(queries, documents, block=2).tolist() == [1, 1, 3]


def test_linear_svc_separates_two_topics() -> None:
    pytest.importorskip("sklearn")
    texts = ["open the mail box", "send a mail message", "draw a round circle", "turn the pen and draw"]
    assert linear_svc(texts, ["mail", "mail", "turtle", "turtle"], ["a mail for you", "draw the pen"]) == ["mail", "turtle"]
