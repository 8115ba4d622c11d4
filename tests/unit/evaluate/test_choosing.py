"""Which candidate a search takes, and what it says of the others."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from stillhouse.passes.base import Artifact
from stillhouse.passes.evaluate.candidate import Candidate, Measured
from stillhouse.passes.evaluate.choosing import Goal, choose, lost
from stillhouse.passes.evaluate.front import svg
from stillhouse.passes.evaluate.intervals import Interval, Share
from stillhouse.passes.evaluate.kept import keep, kept
from stillhouse.passes.evaluate.rows import Truncation
from stillhouse.passes.evaluate.verdict import compare


def measured(name: str, megabytes: float, speed: float, noise: float = 0.02) -> Measured:
    throughput = Interval(speed, speed * (1 - noise), speed * (1 + noise), 10)
    return Measured(name, f"sha256:{name}", int(megabytes * 1e6), {"throughput": throughput})


FP32, INT8, INT4, STATIC = (
    measured("fp32", 88, 100),
    measured("int8", 23, 240),
    measured("int4", 14, 110),
    measured("static", 24, 243),
)


@pytest.mark.parametrize(
    ("goal", "taken"),
    [("fast", "int8"), ("small", "int4"), ("balanced", "int8")],  # static is faster by less than the noise, and larger
)
def test_a_goal_takes_what_it_says(goal: Goal, taken: str) -> None:
    among = [FP32, INT8, INT4, STATIC]
    assert choose(goal, among).precision == taken
    assert choose(goal, among[::-1]).precision == taken, "the order of the ladder decides nothing"


def test_noise_decides_nothing_and_a_real_difference_does() -> None:
    faster = measured("faster", 40, 250, noise=0.001)
    slower = measured("slower", 20, 240, noise=0.001)
    assert choose("fast", [slower, faster]) is faster
    assert choose("fast", [measured("slower", 20, 240, noise=0.1), faster]).precision == "slower"
    assert choose("small", [measured("a", 20.1, 300), measured("b", 20, 100)]).precision == "a", "alike in size: the faster one"


def test_of_sizes_that_are_alike_noise_does_not_decide_either() -> None:
    noisy, calm = measured("int4", 28.985, 355, noise=0.9), measured("static", 29.373, 400, noise=0.1)
    assert choose("small", [noisy, calm]) is choose("small", [calm, noisy]) is noisy, "as fast within the noise, and smaller"
    assert lost("small", calm, noisy).startswith("as fast within the noise, and larger: ")


def test_without_a_load_the_size_decides() -> None:
    one, two = Measured("one", "sha256:1", 10), Measured("two", "sha256:2", 9)
    for goal in ("fast", "small", "balanced"):
        assert choose(goal, [one, two]) is two


def test_who_lost_is_told_why() -> None:
    assert lost("fast", STATIC, INT8) == "as fast within the noise, and larger: 243/s in 22.9 MiB, int8 240/s in 21.9 MiB"
    assert lost("fast", INT4, INT8).startswith("slower: 110/s in 13.4 MiB, int8 240/s")
    assert lost("small", INT8, INT4).startswith("larger: ")
    assert lost("balanced", FP32, INT8).startswith("fewer answers a second for each byte: ")
    assert lost("small", measured("b", 20, 100), measured("a", 20.1, 300)).startswith("as small, and slower: ")


def test_the_picture_has_every_candidate_and_needs_nothing_else() -> None:
    failed = measured("int8<&", 20, 300)
    failed.checks.append(compare("cosine", "min", 0.9, Interval(0.5, 0.4, 0.6, 10)))
    nothing = Measured("untimed", "sha256:0", 0, {"throughput": Interval(math.nan, -math.inf, math.inf, 0)})
    root = ElementTree.fromstring(svg([FP32, INT8, failed, nothing], INT8, "fast"))
    circles = [each.get("class") for each in root.iter() if each.tag.endswith("circle")]
    assert circles == ["passed", "taken", "missed", "passed"]
    texts = [each.text for each in root.iter() if each.tag.endswith("text")]
    assert {"fp32", "int8", "int8<&", "untimed"} <= set(texts)
    for each in root.iter():
        for place in ("cx", "cy"):
            assert each.get(place) is None or 0 <= float(each.get(place, "")) <= 760


def test_what_was_measured_is_read_again_as_it_was(tmp_path: Path) -> None:
    found = measured("int8", 23, 240)
    found.figures["latencyP99"] = Interval(0.1, 0.05, math.inf, 3)
    found.checks.append(compare("latencyP99", "max", 0.2, found.figures["latencyP99"], "s"))
    found.truncated, found.server, found.repeats = Truncation(32, 4, 1, 100, 7), {"cpus": 1}, 2
    share = Share(0.9, 0.8, 1.0, 3, Interval(0.72, 0.6, 0.8, 3), Interval(0.8, 0.7, 0.9, 3))
    found.figures["accuracy / teacher"] = share
    found.checks.append(compare("accuracy / teacher", "min", 0.95, share))
    keep(tmp_path / "measured", found)
    candidate = Candidate("int8", Artifact("sha256:int8", "onnx-model", tmp_path, 1))
    assert kept(tmp_path / "measured", candidate) == found
    assert kept(tmp_path / "measured", Candidate("int8", Artifact("sha256:other", "onnx-model", tmp_path, 1))) is None
    assert kept(tmp_path / "measured", Candidate("fp32", candidate.artifact)) is None
    for content in ("", "{", "[]", '{"digest": "sha256:int8"}', "null"):
        (tmp_path / "measured" / "int8.json").write_text(content)
        assert kept(tmp_path / "measured", candidate) is None
