"""The pages on adding a pass and a loss are true: what they show is put into a copy of the project, and its tests pass there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.how_to import PageStale, apply

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "docs/how-to" / f"add-a-{what}.md" for what in ("pass", "loss")]
CONTRACT = "tests/contract/runner/test_passes.py"
PLANNING = "tests/unit/planning/test_manifest.py"
LESSONS = "tests/contract/passes/test_distill_losses_contract.py"
CHOSEN = "token_use or token-use or huber or every_pass or kinds"


def run(root: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{root / 'operator'}{os.pathsep}{root}"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command[0]}, with what the pages show:\n{done.stdout[-6000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for folder in ("operator", "tests/support", "tests/contract/runner", "tests/contract/passes", "docs", "crds"):
        shutil.copytree(ROOT / folder, root / folder)
    for file in ("pyproject.toml", "tests/conftest.py", PLANNING):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, root / file)
    return root


def test_what_the_pages_show_works(project: Path) -> None:
    new = [str(path.relative_to(project)) for page in PAGES for path in apply(page, project)]
    said = run(project, "stillhouse.api.generate")
    assert "crds/stillhouse.io_distilledmodels.yaml" in said
    described = (project / "crds/stillhouse.io_distilledmodels.yaml").read_text()
    assert "tokenUse:" in described
    assert "- huber" in described
    run(project, "ruff", "check", *new)
    run(project, "ruff", "format", "--check", *new, "operator/stillhouse/planning", "operator/stillhouse/api")
    own = [path for path in new if path.startswith("tests/")]
    assert own == ["tests/contract/passes/test_token_use.py", "tests/contract/passes/test_huber.py"]
    told = run(project, "pytest", "-q", "-p", "no:cacheprovider", "-k", CHOSEN, *own, CONTRACT, PLANNING, LESSONS)
    assert " passed" in told


def test_a_page_that_no_longer_fits_says_where(tmp_path: Path) -> None:
    page, code = tmp_path / "page.md", tmp_path / "a" / "code.py"
    page.write_text("`a/code.py`, at the top:\n```diff\n one\n+two\n@@\n-three\n```\nand\n```sh\nls\n```\n")
    code.parent.mkdir()
    code.write_text("one\nthree\nfour\n")
    assert apply(page, tmp_path) == []
    assert code.read_text() == "one\ntwo\nfour\n"
    with pytest.raises(PageStale, match=r"page\.md: these lines stand 0 times in a/code\.py; mend the page:\nthree"):
        apply(page, tmp_path)
