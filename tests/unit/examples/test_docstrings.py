from __future__ import annotations

import io
from pathlib import Path

from examples._shared.docstrings import SourceFile, extract, extract_all
from examples._shared.packages import standard_library_files
from examples._shared.progress import Progress

SOURCE = '''
"""The module."""
NUMBER = 3


class Shape:
    """A shape."""

    def area(self):
        """Its area.

        In square metres.
        """

        def inner():
            """Hidden inside."""


if NUMBER:
    async def draw():
        """Draw it."""
else:
    def draw_not():
        "No triple quotes, and still a docstring."
'''


def source(folder: Path, text: str, module: str = "shapes") -> SourceFile:
    path = folder / f"{module}.py"
    path.write_text(text, "utf-8")
    return SourceFile(module, module.split(".", maxsplit=1)[0], path)


def test_every_docstring_comes_with_its_qualified_name(tmp_path: Path) -> None:
    found = {docstring.name: (docstring.kind, docstring.text) for docstring in extract(source(tmp_path, SOURCE))}
    assert found == {
        "shapes": ("module", "The module."),
        "shapes.Shape": ("class", "A shape."),
        "shapes.Shape.area": ("function", "Its area.\n\nIn square metres."),
        "shapes.Shape.area.inner": ("function", "Hidden inside."),
        "shapes.draw": ("function", "Draw it."),
        "shapes.draw_not": ("function", "No triple quotes, and still a docstring."),
    }


def test_what_cannot_be_parsed_gives_nothing(tmp_path: Path) -> None:
    assert extract(source(tmp_path, '"""Old."""\nprint "two"\n')) == []
    assert extract(source(tmp_path, '"""Null."""\n\x00')) == []


def test_the_order_of_the_files_does_not_matter(tmp_path: Path) -> None:
    files = [source(tmp_path, f'"""Number {number}."""', f"m{number}") for number in range(5)]
    quiet = Progress(io.StringIO())
    forward = extract_all(files, quiet, processes=1)
    assert forward == extract_all(files[::-1], quiet, processes=1)
    assert [docstring.name for docstring in forward] == ["m0", "m1", "m2", "m3", "m4"]


def test_library_files_leave_out_tests_and_installed_packages(tmp_path: Path) -> None:
    for path in (
        "json/__init__.py",
        "json/decoder.py",
        "test/test_json.py",
        "json/tests/x.py",
        "site-packages/a.py",
        "odd-name.py",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("", "utf-8")
    found = standard_library_files(tmp_path)
    assert [(file.module, file.package) for file in found] == [("json", "json"), ("json.decoder", "json")]
