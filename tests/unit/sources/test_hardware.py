from __future__ import annotations

import pytest

from stillhouse.clients import hardware as module
from stillhouse.clients.hardware import hardware, parse_cpu_max, parse_cpuinfo, reduce_range

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


@pytest.mark.parametrize(
    ("text", "limit"), [("max 100000", None), ("150000 100000", 1.5), ("", None), ("5 0", None), ("x y", None)]
)
def test_cpu_limit_of_the_cgroup(text: str, limit: float | None) -> None:
    assert parse_cpu_max(text) == limit


def test_this_machine_is_described() -> None:
    found = hardware()
    assert found.cores >= 1
    assert found.memory > 1 << 26
    assert set(found.to_json()) == {"cpuModel", "architecture", "isa", "cores", "cpuLimit", "memory"}


def test_the_first_version_of_cgroups_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": f"{64 << 20}\n",
    }
    monkeypatch.setattr(module, "_read", lambda path: files.get(path, ""))
    found = hardware.__wrapped__()
    assert (found.cpu_limit, found.memory) == (0.5, 64 << 20)
    files["/sys/fs/cgroup/cpu/cpu.cfs_quota_us"] = "-1\n"
    assert hardware.__wrapped__().cpu_limit is None
