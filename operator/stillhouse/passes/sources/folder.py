"""The files of a source folder, none of which leaves it.

A link is followed only when what it names lies in the folder itself, or, in a Hugging Face cache
(`models--owner--name/snapshots/<commit>/`), in the `blobs` folder of the same repository: that is how the cache
stores every file. The artifact gets copies, never links, so nothing outside the store can change it later.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.errors import SourceError, UnsafeSource
from stillhouse.sizes import size

__all__ = ["MAX_JSON", "SourceFolder", "allowed_roots", "copy_file", "read_json"]

MAX_JSON = 256 << 20
"""Largest JSON file that is read, in bytes; a large multilingual tokenizer.json has about 35 MB."""
_DEPTH = 4


@dataclass(frozen=True, slots=True)
class SourceFolder:
    """A folder that was listed safely: relative POSIX path → real file.

    `astray` are links that lead out of it and things that are neither file nor folder: no harm while nothing asks for
    them, refused when something does.
    """

    root: Path
    files: dict[str, Path]
    astray: dict[str, str]

    @classmethod
    def open(cls, root: Path) -> SourceFolder:
        """List `root`, four levels deep, hidden entries left out.

        Raises:
            SourceError: it is not a folder, or cannot be read.
        """
        if not root.is_dir():
            raise SourceError(
                "the source is not a folder",
                field="source.uri",
                found=root.name,
                allowed="a folder with config.json, model.safetensors and tokenizer.json",
                fix="name the folder, not a file in it",
            )
        folder = cls(root, {}, {})
        _walk(root, allowed_roots(root), folder, "")
        return folder

    def has(self, name: str) -> bool:
        """Say whether the folder holds this relative path, be it a link that must not be followed."""
        return name in self.files or name in self.astray

    def path(self, name: str) -> Path:
        """Return the real file behind a relative path.

        Raises:
            UnsafeSource: it is a link that leads out of the folder, or no regular file.
            SourceError: there is none; the message lists what there is.
        """
        if name in self.astray:
            raise UnsafeSource(
                f"{name} leads out of the source folder, or is no regular file",
                field="source.uri",
                found=self.astray[name][:200],
                allowed="regular files, and links that stay inside the folder",
                fix=f'replace the link by a copy: cp --remove-destination "$(readlink -f {name})" {name}',
            )
        if name not in self.files:
            raise SourceError(
                f"{name} is missing",
                field="source.uri",
                found=_some(sorted(self.files)),
                allowed=name,
                fix=f"add {name} to the folder, or point source.uri at the folder that holds it",
            )
        return self.files[name]

    def top(self, suffix: str) -> list[str]:
        """Return the names in the folder itself that end in `suffix`, sorted."""
        return sorted(name for name in (*self.files, *self.astray) if "/" not in name and name.endswith(suffix))


def allowed_roots(root: Path) -> tuple[Path, ...]:
    """Return the folders in which the real files of the source at `root` may lie."""
    real = root.resolve()
    roots = [real]
    repository = real.parent.parent
    if real.parent.name == "snapshots" and repository.name.startswith("models--"):
        roots.append(repository / "blobs")
    return tuple(roots)


def _walk(folder: Path, allowed: tuple[Path, ...], into: SourceFolder, prefix: str) -> None:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise SourceError("the source folder cannot be read", field="source.uri", found=str(error)) from error
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        name = prefix + entry.name
        real = Path(entry.path)
        if entry.is_symlink():
            target = real.readlink()
            real = real.resolve()
            if not any(real.is_relative_to(base) for base in allowed) or not real.exists():
                into.astray[name] = f"{name} -> {target}"
                continue
        if real.is_dir():
            # A linked folder could name its own parent; only files are followed.
            if name.count("/") < _DEPTH and not entry.is_symlink():
                _walk(real, allowed, into, name + "/")
        elif real.is_file():
            into.files[name] = real
        else:
            into.astray[name] = f"{name}, a device, a socket or a pipe"


def copy_file(source: Path, target: Path) -> int:
    """Copy the contents of `source` to `target` (mode 0644) and return the size in bytes.

    A copy, not a hard link: the store makes its objects read-only, which would change the user's file as well, and
    a file edited in place would change the object.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target, follow_symlinks=True)
    return target.stat().st_size


def read_json(path: Path, name: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        SourceError: it is larger than `MAX_JSON`, not UTF-8, not JSON, nested too deeply, or not an object.
    """
    problem = ""
    data: Any = None
    try:
        if path.stat().st_size > MAX_JSON:
            problem = f"{size(path.stat().st_size)}, more than {size(MAX_JSON)}"
        else:
            data = json.loads(path.read_bytes().decode("utf-8"))
            if not isinstance(data, dict):
                problem = f"a JSON {type(data).__name__}"
    except RecursionError:
        problem = "JSON that is nested too deeply"
    except (OSError, ValueError) as error:
        problem = str(error)
    if problem:
        raise SourceError(
            f"{name} cannot be read",
            field="source.uri",
            found=problem[:200],
            allowed="a JSON object in UTF-8",
            fix=f"fetch {name} again from where the model was published",
        )
    return dict(data)


def _some(names: list[str], count: int = 12) -> str:
    shown = ", ".join(names[:count]) or "an empty folder"
    return shown + (f", and {len(names) - count} more" if len(names) > count else "")
