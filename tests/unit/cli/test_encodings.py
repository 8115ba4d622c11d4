"""Texts and names that are not UTF-8: said clearly, with the line, and never a bug of ours."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.triton import TritonClient
from stillhouse.entrypoints.commands import infer
from stillhouse.entrypoints.local.benching import _payloads
from stillhouse.entrypoints.local.lines import lines_of
from stillhouse.errors import DataError, UsageError

from .conftest import Still


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n \n", []),
        (b"a\nb", ["a", "b"]),
        (b"a\r\n\r\n b \rc\n", ["a", " b ", "c"]),
        ("a\u2028b\fc\n".encode(), ["a\u2028b\fc"]),
        ("schön".encode(), ["schön"]),
    ],
)
def test_a_text_is_a_line(content: bytes, lines: list[str]) -> None:
    assert lines_of(content, "standard input") == lines


@pytest.mark.parametrize("content", [b"fine\n\xff\n", b"fine\r\ncaf\xe9\n", "x\ny".encode("utf-16"), b"fine\n\xe9"])
def test_standard_input_that_is_no_utf8(still: Still, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    # In a locale without an encoding, Python would read it without a word.
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="surrogateescape"))
    result = still("infer", "tiny")
    assert (result.code, result.out) == (2, "")
    assert "standard input: the text is not UTF-8\n  found:   byte 0x" in result.err
    assert "iconv" in result.err


def test_the_line_and_byte_are_named() -> None:
    with pytest.raises(UsageError) as refused:
        lines_of(b"fine\n\ncaf\xe9 au lait\n", "--texts latin1.txt")
    assert refused.value.problem.found == "byte 0xe9 at position 3 of line 3"


def test_a_file_of_texts_that_is_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(UsageError) as refused:
        _payloads(LocalStore(tmp_path / "store"), "tiny", "sha256:00", tmp_path / "latin1.txt")
    assert refused.value.exit_code == 2
    assert refused.value.problem.field == f"--texts {tmp_path / 'latin1.txt'}"


def test_an_argument_that_is_no_utf8_is_not_sent() -> None:
    with TritonClient("127.0.0.1:9") as client, pytest.raises(DataError) as refused:
        client.infer_texts("tiny", ["fine", os.fsdecode(b"caf\xe9")])
    assert refused.value.exit_code == 2
    assert refused.value.problem.found == r"caf\udce9"


def test_an_image_whose_name_is_no_utf8_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    with click.Context(infer.command):
        infer._print({"text": os.fsdecode(b"caf\xe9.png"), "label": "seven", "probabilities": {}}, many=True)
    assert capsys.readouterr().out.splitlines() == ["caf\ufffd.png", "  seven"]


@pytest.mark.parametrize("line", ["status NAME", "infer NAME text", "lint --no-sources NAME"])
def test_a_name_that_is_no_utf8_is_refused_as_text_and_as_data(line: str, tmp_path: Path) -> None:
    """In a process of its own: pytest's standard error is stricter than Python's."""
    words = [os.fsdecode(b"caf\xe9") if word == "NAME" else word for word in line.split()]
    command = [sys.executable, "-m", "stillhouse.entrypoints.cli", *words, "-o", "json"]
    environment = {**os.environ, "STILLHOUSE_HOME": str(tmp_path / "store")}
    done = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(b"error: ")
    text = done.stdout.decode()
    assert r"caf\udce9" in text
    assert json.loads(text)["exitCode"] == 2
