"""Texts that are not UTF-8, for a model that runs."""

from __future__ import annotations

import os

from tests.support.cli import Project
from tests.support.cli_servers import up


def test_texts_that_are_no_utf8_are_the_users_mistake(built: Project) -> None:
    up(built)
    said = built.still("infer", "tiny", "fine", os.fsdecode(b"caf\xe9"), code=2).stderr
    assert "TEXT: a text is not UTF-8\n  found:   caf\\udce9\n" in said
    (built.folder / "latin1.txt").write_bytes(b"fine\ncaf\xe9\n")
    said = built.still("bench", "tiny", "--texts", "latin1.txt", code=2).stderr
    assert "--texts latin1.txt: the text is not UTF-8\n  found:   byte 0xe9 at position 3 of line 2\n" in said
    assert len(built.still("infer", "tiny", "fine").stdout.splitlines()) == 5
