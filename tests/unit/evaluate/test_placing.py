"""Names in a picture stand on no other name, on no point, and on the paper."""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.passes.distill.search.shapes import Limits, Tried
from stillhouse.passes.distill.search.telling import picture
from stillhouse.passes.picture import Axis, Point, scatter
from stillhouse.passes.placing import RADIUS, Box, Label, place, width_of

SVG = "{http://www.w3.org/2000/svg}"
PAPER = Box(84, 60, 756, 345)
PRECISIONS = ("int8-qat", "int8-static", "int8-static-mixed", "int8", "int8-mixed", "mixed", "int4", "fp16", "bf16", "fp32")


def check(points: list[tuple[float, float, str]], labels: list[Label | None], paper: Box = PAPER) -> None:
    """Fail where two names share room, a name lies on a point or off the paper, or a line goes through a name."""
    there = [label for label in labels if label is not None]
    marks = [Box(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y, _ in points]
    assert not [pair for pair in itertools.combinations(there, 2) if pair[0].box.meets(pair[1].box)]
    assert not [label for label in there if any(label.box.meets(mark) for mark in marks)]
    assert all(paper.holds(label.box) for label in there)
    lines = [label.leader for label in there if label.leader is not None]
    assert not [line for line, label in itertools.product(lines, there) if label.box.crossed(line)]
    for (_, _, name), label in zip(points, labels, strict=True):
        if label is not None:
            assert label.box.right - label.box.left >= width_of(name)


def test_a_point_alone_has_its_name_on_the_right() -> None:
    (label,) = place([(300, 200, "int8")], PAPER)
    assert label is not None
    assert (label.anchor, label.leader) == ("start", None)
    assert label.x == 312
    assert label.box.top < 200 < label.box.bottom


def test_right_then_left_then_above_then_below() -> None:
    wide = "a-name-that-takes-room"
    right = place([(300, 200, "abc"), (330, 200, wide)], PAPER)
    assert [label and label.anchor for label in right] == ["end", "start"], "the neighbour is in the way on the right"
    walls = [(318.0, 100.0, 318.0, 300.0)]
    assert [label and label.anchor for label in place([(300, 200, wide)], PAPER, walls)] == ["end"]
    walls.append((282.0, 190.0, 282.0, 210.0))
    (above,) = place([(300, 200, "abc")], PAPER, walls)
    assert above is not None
    assert above.anchor == "middle"
    assert above.y < 200
    (below,) = place([(300, 200, "abc")], PAPER, [*walls, (250.0, 185.0, 350.0, 185.0)])
    assert below is not None
    assert below.anchor == "middle"
    assert below.y > 200
    (led,) = place([(300, 200, "abc")], PAPER, [*walls, (250.0, 185.0, 350.0, 185.0), (250.0, 215.0, 350.0, 215.0)])
    assert led is not None
    assert led.leader is not None


@pytest.mark.parametrize("apart", [0.0, 1.0, 4.0, 15.0])
@pytest.mark.parametrize(("x", "y"), [(300, 200), (86, 62), (596, 62), (596, 336), (86, 336)])
def test_all_candidates_in_one_place_keep_their_names(x: float, y: float, apart: float) -> None:
    points = [(x + apart * (at % 3), y - apart * (at // 3), name) for at, name in enumerate(PRECISIONS)]
    labels = place(points, PAPER)
    assert None not in labels
    assert labels[0] is not None
    check(points, labels)
    assert place(points, PAPER) == labels, "the same points give the same picture"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(84, 600), st.floats(64, 336), st.text("abimWM048-. é漢", min_size=1, max_size=24)), max_size=25)
)
def test_no_points_make_names_overlap(points: list[tuple[float, float, str]]) -> None:
    check(points, place(points, PAPER))


def test_intervals_are_not_written_on() -> None:
    bars = [(300.0, 100.0, 300.0, 300.0), (312.0, 100.0, 312.0, 300.0)]
    labels = place([(300, 200, "int8"), (312, 200, "int8-static")], PAPER, bars)
    assert all(label is not None and not any(label.box.crossed(bar) for bar in bars) for label in labels)


def test_a_name_without_room_is_left_out() -> None:
    assert place([(300, 200, "n" * 200)], PAPER) == [None]
    assert place([(5, 5, "int8"), (6, 6, "int4")], Box(0, 0, 40, 12)) == [None, None]
    assert place([], PAPER) == []


def boxes_of(text: str) -> list[Box]:
    """Return the boxes of the names in a picture, read from what is drawn."""
    found = []
    for each in ET.fromstring(text).iter(f"{SVG}text"):
        if each.get("class"):
            continue
        x, y, wide = float(each.get("x", "")), float(each.get("y", "")), width_of(each.text or "")
        left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[each.get("text-anchor", "start")]
        found.append(Box(left, y - 10, left + wide, y + 3))
    return found


def test_candidates_that_lie_near_each_other_are_told_apart() -> None:
    """As `precision: auto` finds them: what is INT8 has one size, and the speeds differ by little."""
    points = [
        Point("fp32", 88e6, 100, "passed", 95, 105),
        *(Point(name, 23e6 + at * 1e4, 240 + at, "passed", 230, 250) for at, name in enumerate(PRECISIONS[:5])),
        Point("untimed", 23e6, math.nan, "missed"),
        Point("unsized", 23e6, math.nan, "missed"),
    ]
    text = scatter(points, Axis(str), Axis(str), "Candidates", "below")
    boxes = boxes_of(text)
    assert len(boxes) == len(points), "every candidate has its name"
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].meets(pair[1])]
    assert all(Box(0, 0, 760, 400).holds(box) for box in boxes)
    root = ET.fromstring(text)
    assert [each.get("class") for each in root.iter(f"{SVG}line")].count("leader") > 0
    assert [each.findtext(f"{SVG}title") for each in root.iter(f"{SVG}circle")] == [each.name for each in points]


def test_a_search_of_many_shapes_tells_how_many_names_had_no_room() -> None:
    tried = [
        Tried({"hiddenLayers": 1 + at % 4, "hiddenSize": 32 * (1 + at // 4), "vocabulary": 16_000}, 0.8, 1e-3, 1 << 20, 1, 1.0)
        for at in range(150)
    ]
    text = picture(tried, tried[0], Limits(), "cosine")
    boxes = boxes_of(text)
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].meets(pair[1])]
    assert f"{len(tried) - len(boxes)} more names: point at a mark" in text
    assert "1-32-16000" in [each.text for each in ET.fromstring(text).iter(f"{SVG}text")], "what was taken has its name"
