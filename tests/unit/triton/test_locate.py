"""Laying out the backend where the cache does not take it."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from stillhouse.errors import ServerError
from stillhouse.triton import locate


@pytest.mark.parametrize(
    ("number", "way"),
    [
        (errno.ENOSPC, "free space there"),
        (errno.EDQUOT, "free space there"),
        (errno.EROFS, "give this user the right to write there"),
        (errno.EACCES, "give this user the right to write there"),
    ],
)
def test_a_cache_that_takes_nothing_can_lie_elsewhere(
    number: int, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(**_: object) -> str:
        raise OSError(number, os.strerror(number), str(tmp_path))

    monkeypatch.setattr(tempfile, "mkdtemp", refusing)
    with pytest.raises(ServerError, match="cannot be laid out") as refused:
        locate.prepare_backends(locate.find(), tmp_path)
    assert refused.value.problem.fix == f"{way}, or put the cache elsewhere: XDG_CACHE_HOME=/path"
