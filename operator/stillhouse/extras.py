"""The line that installs an optional part, from the same place as this installation: no index has the packages yet."""

from __future__ import annotations

import importlib.util
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["CLONE", "PACKAGES", "install", "install_apart", "lacking", "origin", "requirement"]

NAME = "stillhouse"
CLONE = "/path/to/stillhouse"
"""Stands for a clone of the repository where nobody can say where one is."""
PACKAGES = {
    "serve": ("onnxruntime", "tokenizers", "tritonclient", "numpy", "pyarrow"),
    "build": ("torch", "transformers", "accelerate", "safetensors", "datasets", "onnx", "onnxscript"),
    "gateway": ("httpunk", "uvloop", "google.protobuf", "numpy", "onnxruntime", "tokenizers", "prometheus_client", "re2"),
    "operator": ("kubernetes", "kopf", "prometheus_client", "orjson", "aiohttp", "cryptography"),
}
"""Extra → import names that show whether it is there."""
APART_SIZE = "7 GB"
_SOURCE = Path(__file__).resolve().parents[2]


def install(extra: str) -> str:
    """Return the command that adds an extra to this environment, such as `pip install '/src/stillhouse[gateway]'`."""
    direct = origin()
    editable = bool((direct.get("dir_info") or {}).get("editable"))
    return f"pip install {'-e ' if editable else ''}{shlex.quote(requirement(extra, direct))}"


def install_apart(extra: str) -> str:
    """Return the commands for an extra that would replace packages of this environment: they make another one beside it.

    What was built with other versions of torch is built again there, since its steps have other keys.
    """
    words = requirement(extra, origin())
    return (
        f"in an environment of its own, for it asks for another torch than the one here (about {APART_SIZE}; what torch made is"
        f" made again there): python3.11 -m venv {extra} && {extra}/bin/pip install {shlex.quote(words)}; then {extra}/bin/still"
    )


def lacking(extra: str) -> list[str]:
    """Return the packages of an extra that are not installed; none of them is imported."""
    return [name for name in PACKAGES[extra] if not _there(name)]


def _there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):  # of the parent; what somebody has put in its place
        return False


def origin() -> Mapping[str, Any]:
    """Return where this distribution was installed from (`direct_url.json`, PEP 610); empty where nobody wrote that down."""
    import importlib.metadata  # reads mail: whoever misses nothing need not wait for it

    try:
        found = json.loads(importlib.metadata.distribution(NAME).read_text("direct_url.json") or "{}")
    except (importlib.metadata.PackageNotFoundError, OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def requirement(extra: str, direct: Mapping[str, Any], source: Path = _SOURCE) -> str:
    """Return what pip is told to install. `direct`: as `origin` gives it; `source`: the folder that would be a clone's.

    A folder or a wheel of this machine counts while it is there. Else a clone that this code runs from, else one that the
    reader has to name: where an index brought the packages, nothing is written down.
    """
    url = urlsplit(str(direct.get("url") or ""))
    if url.scheme == "file":
        place = Path(unquote(url.path))
        if place.exists():
            return f"{place}[{extra}]"
    elif url.scheme:
        vcs = direct.get("vcs_info") or {}
        text = url.geturl()
        if vcs:
            text = f"{vcs.get('vcs', 'git')}+{text}@{vcs.get('commit_id') or vcs.get('requested_revision') or 'HEAD'}"
        folder = direct.get("subdirectory")
        return f"{NAME}[{extra}] @ {text}" + (f"#subdirectory={folder}" if folder else "")
    here = source if (source / "pyproject.toml").is_file() else Path(CLONE)
    return f"{here}[{extra}]"
