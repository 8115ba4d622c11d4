"""The source root is called `operator`, as a module of the standard library is: it must never be in that one's way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, sysconfig
sys.modules.pop("operator", None)
sys.modules.pop("collections", None)
import operator, collections
library = sysconfig.get_path("stdlib")
for module in (operator, collections):
    assert module.__file__ and module.__file__.startswith(library), module
assert operator.itemgetter(1)("ab") == "b"
import stillhouse
print(stillhouse.__file__)
"""


@pytest.mark.parametrize("started", ["-c", "-", "-m"], ids=["code", "standard input", "module"])
def test_operator_and_collections_are_the_standard_librarys(started: str, tmp_path: Path) -> None:
    """Python puts the current folder first on its path in all three cases."""
    arguments = {"-c": ["-c", PROGRAM], "-": ["-"], "-m": ["-m", "timeit", "-n", "1", "-r", "1", f"exec({PROGRAM!r})"]}[started]

    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        input=PROGRAM,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert str(ROOT / "operator" / "stillhouse") in done.stdout


def test_the_source_root_is_no_package() -> None:
    assert (ROOT / "operator").is_dir()
    assert not list((ROOT / "operator").glob("*.py"))
