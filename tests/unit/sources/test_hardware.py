from __future__ import annotations

import pytest

from stillhouse.clients import hardware as module
from stillhouse.clients.hardware import hardware, parse_cpu_max


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
