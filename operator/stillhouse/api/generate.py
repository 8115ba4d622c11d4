"""Writes every file that is generated from the models: `python -m stillhouse.api.generate [ROOT]`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from stillhouse.api import crd, reference

__all__ = ["GENERATED", "main", "write"]

GENERATED: dict[str, Callable[[], str]] = {
    f"crds/{crd.FILE_NAME}": crd.render,
    f"crds/{crd.REVISION_FILE_NAME}": crd.render_revision,
    f"charts/stillhouse/files/crds/{crd.FILE_NAME}": lambda: crd.for_chart(crd.crd()),
    f"charts/stillhouse/files/crds/{crd.REVISION_FILE_NAME}": lambda: crd.for_chart(crd.revision_crd()),
    f"docs/reference/{reference.FILE_NAME}": reference.render_markdown,
}
"""Path below the project's root → what the file holds."""


def write(root: Path) -> list[Path]:
    """Write the files below a project's root; return those that changed."""
    changed = []
    for name, render in GENERATED.items():
        path, text = root / name, render()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def main(arguments: list[str]) -> None:
    """Write below the folder that is named, the current one by default, and say what changed."""
    for path in write(Path(*arguments)):
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
