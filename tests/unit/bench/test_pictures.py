"""The docs' pictures are of the figures that stand in the result files."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from bench.harness.drawing import Panel, Row, Value, panels
from bench.pictures import FOLDER, PICTURES

DOCS = FOLDER.parent


@pytest.mark.parametrize("name", list(PICTURES))
def test_a_picture_is_what_its_result_gives(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PICTURES[name](), "python -m bench.pictures draws it anew"


@pytest.mark.parametrize("name", list(PICTURES))
def test_a_page_shows_it(name: str) -> None:
    assert [page for page in DOCS.rglob("*.md") if f"pictures/{name})" in page.read_text(encoding="utf-8")]


def marks(picture: str, tag: str) -> list[dict[str, str]]:
    return [dict(found.attrib) for found in ElementTree.fromstring(picture).iter(f"{{http://www.w3.org/2000/svg}}{tag}")]


def test_values_stand_in_their_order_and_the_line_among_them() -> None:
    rows = [Row("a", "ours", (Value(1.0, 0.9, 1.2),)), Row("b", "other", (Value(3.0, 2.0, 4.0),)), Row("c", "taken", (None,))]
    drawn = panels("t", "b", [Panel("p", "{:.1f}".format, line=2.0)], rows)
    circles = marks(drawn, "circle")
    assert [each["class"] for each in circles] == ["ours", "other"]  # what was not measured has no mark
    line = next(each for each in marks(drawn, "line") if each["class"] == "line")
    assert float(circles[0]["cx"]) < float(line["x1"]) < float(circles[1]["cx"])
    bar = next(each for each in marks(drawn, "line") if each["class"] == "bar other")
    assert float(bar["x1"]) < float(circles[1]["cx"]) < float(bar["x2"])


def test_beyond_the_edge_a_value_stands_at_the_edge_with_its_number() -> None:
    rows = [Row("a", "ours", (Value(1.0, 1.0, 1.0),)), Row("b", "ours", (Value(58.0, 55.0, 61.0),))]
    drawn = panels("t", "b", [Panel("p", "{:.0f}".format, most=5.0)], rows)
    near, far = (float(each["cx"]) for each in marks(drawn, "circle"))
    assert near < far
    assert re.search(r">58</text>", drawn)


def test_logarithms_are_even_steps() -> None:
    rows = [Row(str(value), "ours", (Value(value, value, value),)) for value in (1.0, 10.0, 100.0)]
    drawn = panels("t", "b", [Panel("p", "{:.0f}".format, logarithmic=True)], rows)
    places = [float(each["cx"]) for each in marks(drawn, "circle")]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.11)


def test_names_are_text() -> None:
    drawn = panels("<t> & t", "b", [Panel("p", str)], [Row("a<b", "ours", (Value(1, 1, 1),))])
    assert "a&lt;b" in drawn
    ElementTree.fromstring(drawn)
