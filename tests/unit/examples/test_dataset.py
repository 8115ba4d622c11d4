from __future__ import annotations

import io
import json
import time
from pathlib import Path

from examples._shared.dataset import is_current, write
from examples._shared.progress import Progress


def test_a_data_set_is_written_once(tmp_path: Path) -> None:
    inputs = {"seed": 1, "packages": {"b": "2"}}
    first = write(tmp_path / "data", {"train": {"text": ["ä", "b"]}}, inputs, {"note": 3})
    assert first["files"]["train.parquet"]["rows"] == 2
    assert json.loads((tmp_path / "data/manifest.json").read_text("utf-8")) == first
    assert is_current(tmp_path / "data", inputs)
    again = write(tmp_path / "more", {"train": {"text": ["ä", "b"]}}, inputs, {})
    assert again["digest"] == first["digest"]


def test_other_inputs_or_a_damaged_file_are_not_current(tmp_path: Path) -> None:
    write(tmp_path, {"train": {"text": ["a"]}}, {"seed": 1}, {})
    assert not is_current(tmp_path, {"seed": 2})
    (tmp_path / "train.parquet").write_bytes(b"cut")
    assert not is_current(tmp_path, {"seed": 1})
    assert not is_current(tmp_path / "missing", {"seed": 1})


def test_a_step_that_takes_long_does_not_stand_silent() -> None:
    stream = io.StringIO()
    with Progress(stream, interval=0.02) as progress:
        progress.step("sorting")
        stop = time.monotonic() + 10
        while "… sorting" not in stream.getvalue() and time.monotonic() < stop:
            time.sleep(0.01)
    assert "… sorting" in stream.getvalue()
