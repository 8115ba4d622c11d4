"""What a machine must have for nodes, and what it lacks."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from tests.support.nodes import groups

__all__ = ["PACKAGES", "PROGRAMS", "lacking"]

PACKAGES = (
    "containerd", "runc", "containernetworking-plugins", "iptables", "iproute2", "conntrack", "buildah", "debootstrap", "openssl",
    "gcc", "libc6-dev", "util-linux", "mount", "procps", "ipset",
)  # fmt: skip
"""Debian packages; `scripts/cluster-packages.sh` installs them."""
PROGRAMS = (
    "containerd",
    "ctr",
    "runc",
    "iptables",
    "ip",
    "conntrack",
    "buildah",
    "debootstrap",
    "openssl",
    "gcc",
    "nsenter",
    "ipset",
)
_NETWORK_PLUGINS = Path("/usr/lib/cni")


def lacking() -> str:
    """Return why no node can run here, and what would help; empty where one can."""
    if platform.system() != "Linux":
        return f"nodes need Linux, this is {platform.system()}"
    if os.geteuid() != 0:
        return "nodes need root: namespaces, mounts and control groups are made (sudo make test, or leave this tier to CI)"
    missing = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None]
    if not (_NETWORK_PLUGINS / "bridge").exists():
        missing.append("containernetworking-plugins")
    if missing:
        return f"not installed: {', '.join(missing)}; scripts/cluster-packages.sh installs them (Debian: {' '.join(PACKAGES)})"
    return groups.lacking()
