from __future__ import annotations

from examples._shared.text import MASK, mask_word, normalise, remove_phrase, shorten, split_summary, usable


def test_summary_is_the_first_paragraph_and_the_body_the_rest() -> None:
    summary, body = split_summary("Open a file\nfor reading.\n  \nArgs:\n\n    path: where.\n")
    assert summary == "Open a file for reading."
    assert body == "Args: path: where."


def test_a_single_paragraph_has_no_body() -> None:
    assert split_summary("Only this.") == ("Only this.", "")


def test_normalise_folds_white_space_width_and_control_signs() -> None:
    assert normalise("a\t b\n\x00c ｄ\u00a0e") == "a b c d e"


def test_shorten_cuts_between_words() -> None:
    assert shorten("alpha beta gamma", 11) == "alpha beta"
    assert shorten("alpha beta gamma", 10) == "alpha beta"
    assert shorten("alpha", 10) == "alpha"
    assert len(shorten("a" * 30, 10)) == 10


def test_a_body_loses_its_query_in_any_case() -> None:
    assert remove_phrase("Note: return the name. More.", "Return the name.") == "Note: . More."
    assert remove_phrase("(a+b) stays regular", "(a+b)") == "stays regular"


def test_masking_takes_words_and_dotted_parts_but_no_part_of_a_word() -> None:
    assert mask_word("Email and email.policy, not emailing", "email") == f"{MASK} and {MASK}.policy, not emailing"


def test_usable_wants_length_words_and_letters() -> None:
    assert usable("a text of words", 10)
    assert not usable("two words", 5)
    assert not usable("1 2 3 4 5 6 7 8 9", 5)
    assert not usable("a b c d", 20)
