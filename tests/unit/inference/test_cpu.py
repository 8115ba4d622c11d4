"""What a CPU tells of itself: how many bits of an INT8 weight are safe on it, and how sessions read those of 8 bits."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillhouse.inference import cpu
from stillhouse.inference.cpu import parse_cpuinfo, reduce_range, saturates
from stillhouse.inference.options import UNSIGNED, session_options

X86 = """processor\t: 0
model name\t: Some(R) CPU @ 2.0GHz
flags\t\t: fpu sse2 avx avx2 avx512f avx512_vnni hypervisor

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""
ARM = "processor : 0\nFeatures : fp asimd asimddp i8mm\n"


def test_cpuinfo_of_two_architectures() -> None:
    assert parse_cpuinfo(X86) == ("Some(R) CPU @ 2.0GHz", ("avx", "avx2", "avx512f", "avx512_vnni"))
    assert parse_cpuinfo(ARM) == ("", ("asimd", "asimddp", "i8mm"))
    assert parse_cpuinfo("") == ("", ())


@pytest.mark.parametrize(
    ("isa", "seven_bits"),
    [(("avx", "avx2"), True), (("avx2", "avx512f"), True), (("avx2", "avx_vnni"), False),
     (("avx2", "avx512f", "avx512_vnni"), False),
     (("asimd", "asimddp"), False), (("asimd",), False), ((), False)],
)  # fmt: skip
def test_seven_bits_where_sums_saturate(isa: tuple[str, ...], seven_bits: bool) -> None:
    assert reduce_range(isa) is seven_bits


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another machine's file, in place of this one's."""
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    saturates.cache_clear()
    yield tmp_path / "cpuinfo"
    saturates.cache_clear()


@pytest.mark.parametrize(
    ("flags", "unsigned"),
    [("flags : fpu avx avx2", True), ("flags : fpu avx avx2 avx512f", True), ("flags : avx avx2 avx512f avx512_vnni", False),
     ("flags : avx avx2 avx_vnni", False), ("Features : asimd asimddp", False), ("", True), (None, True)],
)  # fmt: skip
def test_weights_are_taken_unsigned_where_sums_saturate_alone(cpuinfo: Path, flags: str | None, unsigned: bool) -> None:
    """With VNNI it would cost more than half of INT8's speed; an x86 of which nothing is known is asked to be right."""
    if flags is not None:
        cpuinfo.write_text(flags)
    assert saturates() is unsigned
    options = session_options(1)
    if unsigned:
        assert options.get_session_config_entry(UNSIGNED) == "1"
    else:
        with pytest.raises(RuntimeError):
            options.get_session_config_entry(UNSIGNED)


def test_another_architecture_of_which_nothing_is_known_is_left_alone(cpuinfo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert not saturates()
