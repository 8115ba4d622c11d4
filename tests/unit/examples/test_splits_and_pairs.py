from __future__ import annotations

import io

import pytest
from examples._shared.docstrings import Docstring
from examples._shared.pairs import cut, grouped, pairs_of, unalike, units_of, unlike_held_out
from examples._shared.progress import Progress
from examples._shared.splits import deal, in_hash_order
from examples._shared.topics import few_per_class, fold_of, labelled, topics_of

QUIET = Progress(io.StringIO())
WORDS = ["read", "open", "parse", "join", "sort", "merge", "count", "draw", "send", "lock"]


def docstrings(count: int, package: str = "tools") -> list[Docstring]:
    return [
        Docstring(
            f"{package}.f{number}",
            package,
            "function",
            f"{WORDS[number % 10].title()} the {package} number {number * 7919 + sum(map(ord, package))} quickly.\n\n"
            f"It takes {WORDS[number * 3 % 10]} {number * 104729} items and {WORDS[number * 7 % 10]} {number**3} of them.",
        )
        for number in range(count)
    ]


def test_hash_order_ignores_the_order_of_reading() -> None:
    items = [f"item {number}" for number in range(50)]
    assert in_hash_order(items, str, 1) == in_hash_order(items[::-1], str, 1) != in_hash_order(items, str, 2)


def test_dealing_cuts_without_overlap() -> None:
    assert deal(list(range(10)), {"a": 0.5, "b": 0.3}) == {"a": [0, 1, 2, 3, 4], "b": [5, 6, 7]}
    with pytest.raises(ValueError, match=r"add up to 1\.100"):
        deal([1], {"a": 0.6, "b": 0.5})


def test_pairs_have_distinct_queries_and_bodies_without_their_query() -> None:
    texts = [
        "Return the current folder.\n\nThis will return the current folder or raise an error when it is gone.",
        "Return the current folder.\n\nAnother body that is long enough to be a document of its own.",
        "Short one only.\n\nToo short.",
    ]
    pairs = pairs_of(cut([Docstring(f"m.f{number}", "m", "function", text) for number, text in enumerate(texts)], QUIET))
    assert [(pair.name, pair.document) for pair in pairs] == [("m.f0", "This will or raise an error when it is gone.")]


def test_who_cuts_docstrings_says_how_many() -> None:
    said = io.StringIO()
    cut(docstrings(1_200), Progress(said, interval=0.0))
    assert said.getvalue().splitlines()[-1].endswith("cut docstrings 1,200/1,200")


def test_near_duplicate_pairs_leave_one_and_the_library_wins() -> None:
    pairs = pairs_of(cut(docstrings(30), QUIET))
    near = [
        type(pair)(pair.query + "!", "Something else entirely, about " + pair.name * 3, pair.name, "copy") for pair in pairs[:5]
    ]
    kept = unalike([*near, *pairs], 3, QUIET, first=["tools"])
    assert sorted(pair.key for pair in kept) == sorted(pair.key for pair in pairs)


def test_training_rows_keep_a_summary_and_its_body_together() -> None:
    texts = [
        "Return the current folder.\n\nThis will raise an error when it is gone for good.",
        "A summary that stands alone here.",
        "Another summary with a held-out body.\n\nThis body is among the texts that are held out of training.",
        "Return the current folder.\n\nA second body under the same summary stands alone.",
    ]
    cuts = cut([Docstring(f"m.f{number}", "m", "function", text) for number, text in enumerate(texts)], QUIET)
    units = units_of(pairs_of(cuts), cuts, 16, QUIET)
    assert sorted(map(len, units)) == [1, 1, 2, 2]
    rows = grouped(units, ["This body is among the texts that are held out of training."], None, QUIET)
    alone = [text for text, group in zip(rows["text"], rows["group"], strict=True) if group is None]
    assert alone == [
        "Another summary with a held-out body.",
        "A summary that stands alone here.",
        "A second body under the same summary stands alone.",
    ]
    pairs = [text for text, group in zip(rows["text"], rows["group"], strict=True) if group is not None]
    assert pairs == ["Return the current folder.", "This will raise an error when it is gone for good."]
    assert grouped(units, [], 3, QUIET)["text"] == [text for unit in units for text in unit][:3]


def test_held_out_text_is_not_in_the_unlabelled_pool() -> None:
    held_out = ["Return the number of items that are waiting in the queue."]
    texts = ["return the number of items that are waiting in the queues.", "Remove all items from the queue at once."]
    assert unlike_held_out(texts, held_out, QUIET) == texts[1:]


def test_topics_mask_their_class_and_drop_shared_texts() -> None:
    shared = Docstring("a.f", "alpha", "function", "One text under two labels, dropped.")
    found = topics_of(
        [
            shared,
            Docstring("b.f", "beta", "function", shared.text),
            Docstring("_g.f", "_gamma", "function", "What gamma gives and _gamma hides here."),
        ]
    )
    assert [(topic.text, topic.label) for topic in found] == [("What ___ gives and ___ hides here.", "_gamma")]


def test_five_folds_test_every_topic_once_and_keep_groups_together() -> None:
    topics = labelled(topics_of(docstrings(60, "alpha") + docstrings(55, "beta") + docstrings(20, "rare")))
    assert {topic.label for topic in topics} == {"alpha", "beta"}
    tested: list[str] = []
    for fold in range(5):
        places = fold_of(topics, 5, fold, {"gate": 0.2, "validation": 0.1}, 1, QUIET)
        assert set(places) == {"test", "gate", "validation", "train"}
        tested += [topic.text for topic, place in zip(topics, places, strict=True) if place == "test"]
    assert sorted(tested) == sorted(topic.text for topic in topics)
    few = few_per_class(topics, 10, 1)
    assert {label: len(chosen) for label, chosen in few.items()} == {"alpha": 10, "beta": 10}
    assert [topics_[:5] for topics_ in few.values()] == list(few_per_class(topics, 5, 1).values())
