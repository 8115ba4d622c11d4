"""SHA-256 of files and of data, against published digests and an independent way to them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.digests import canonical_json, content_digest, content_hash, file_digest, hash_file

# FIPS 180-4's examples: the empty message and "abc".
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(("content", "wanted"), [(b"", EMPTY), (b"abc", ABC)])
def test_a_file_has_the_standard_digest(content: bytes, wanted: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert hash_file(path) == hash_file(path, sync=True) == (len(content), wanted)
    assert file_digest(path) == f"sha256:{wanted}"


def test_a_file_of_several_blocks_is_read_whole(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096 * 2 + b"end"
    path = tmp_path / "file"
    path.write_bytes(content)
    assert hash_file(path) == (len(content), hashlib.sha256(content).hexdigest())


def test_data_is_hashed_in_its_canonical_form() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "ä"}) == '{"a":"ä","b":[1,2.5,null]}'.encode()
    assert content_hash({}) == hashlib.sha256(b"{}").hexdigest()
    assert content_digest({}) == f"sha256:{content_hash({})}"


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers()))
def test_the_order_of_names_does_not_matter(data: dict[str, int]) -> None:
    assert content_hash(data) == content_hash(dict(reversed(list(data.items()))))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_json_has_no_hash(number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        content_hash([number])
