"""`still` in this process: quick, and with a home of its own."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stillhouse.entrypoints import cli


@dataclass(frozen=True)
class Result:
    """What a command left: exit code and both outputs."""

    code: int
    out: str
    err: str


Still = Callable[..., Result]


@pytest.fixture
def still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Still]:
    """A function that runs a command line in an empty folder with an empty home."""
    for name, folder in (("STILLHOUSE_HOME", "store"), ("XDG_CONFIG_HOME", "config"), ("XDG_CACHE_HOME", "cache")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        try:
            code = cli.run(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
