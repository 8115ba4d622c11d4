"""`hf://owner/model[@revision]`: a repository of the Hugging Face hub, pinned to a commit, data files only.

HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they mean for huggingface_hub.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stillhouse.clients.sources.remote.download import too_large
from stillhouse.clients.sources.selection import PATTERNS, UNUSED_PATHS, USED_PATHS, is_used
from stillhouse.clients.store.files import disk_full
from stillhouse.errors import EnvironmentProblem, MissingPackages, SourceError, UnsafeSource
from stillhouse.extras import install

__all__ = ["fetch_repository", "parse_hub_uri"]

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
_REVISION = re.compile(r"[\w./-]{1,128}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def parse_hub_uri(rest: str, uri: str) -> tuple[str, str]:
    """Return (owner/model, revision) of what follows `hf://`; the revision is `main` when left out.

    Raises:
        SourceError: it is not of this form.
    """
    repository, at, revision = rest.strip("/").partition("@")
    if not _REPOSITORY.fullmatch(repository) or (at and not _REVISION.fullmatch(revision)) or ".." in rest:
        raise SourceError(
            "this is no repository of the hub",
            field="uri",
            found=uri,
            allowed="hf://OWNER/MODEL, or hf://OWNER/MODEL@REVISION",
            fix="copy the name from the model's page",
        )
    return repository, revision or "main"


def fetch_repository(
    rest: str,
    folder: Path | None,
    uri: str,
    report: Callable[[int, int], None] | None = None,
    *,
    token: str | bool | None = None,
    limit: int | None = None,
) -> tuple[Path, str, str]:
    """Pin the revision, download what is used, return (snapshot folder, commit, pinned URI).

    `folder` is the download cache (None: huggingface_hub's own). A commit that is in the cache whole is not asked for.
    `report` is told bytes that have come and bytes in all of the files that are not in the cache. `token` None: that of the
    environment; False: none, whatever the environment has. `limit` is the bytes of a whole source.

    Raises:
        SourceError: the repository or revision is not there, access is denied, or it is larger than the limit.
        UnsafeSource: the weights are there as a pickle only.
        MissingPackages: huggingface_hub is not installed.
        EnvironmentProblem: the hub cannot be asked, the download cache cannot be written, or its disk is full.
    """
    repository, revision = parse_hub_uri(rest, uri)
    try:
        import huggingface_hub
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.utils import disable_progress_bars
    except ImportError as error:
        raise MissingPackages("hf:// sources need huggingface_hub", found=str(error), fix=install("build")) from error
    disable_progress_bars()
    # Read at every call, not at the library's import: a long-lived process hears a changed environment.
    endpoint = os.environ.get("HF_ENDPOINT") or None
    options: dict[str, Any] = {
        "repo_id": repository,
        "cache_dir": str(folder) if folder is not None else None,
        "endpoint": endpoint,
        "token": token,
        "ignore_patterns": list(UNUSED_PATHS),
    }
    patterns = list(USED_PATHS)
    try:
        if constants.HF_HUB_OFFLINE:
            path = _from_cache({**options, "revision": revision}, patterns)
        else:
            info = huggingface_hub.HfApi(endpoint=endpoint, token=token).model_info(repository, revision=revision, timeout=30)
            names = [item.rfilename for item in info.siblings or ()]
            _refuse_pickle_only(names, uri)
            if any(name.endswith(".safetensors") and "/" not in name for name in names):
                # Many repositories add a dozen ONNX variants of the same weights.
                patterns = _without_graphs(patterns)
            options |= {"revision": info.sha, "allow_patterns": patterns}
            if report is not None or limit is not None:
                files = snapshot_download(**options, dry_run=True)
                whole = sum(file.file_size or 0 for file in files)
                if limit is not None and whole > limit:
                    raise too_large(uri, whole, limit)
            if report is not None:
                options["tqdm_class"] = _counting(report, sum(file.file_size or 0 for file in files if file.will_download))
            path = Path(snapshot_download(**options))
    except SourceError:
        raise
    except Exception as error:  # HTTP, cache and validation errors of several libraries
        _refuse_disk(error, folder)
        raise _explain(error, repository, revision, uri) from error
    commit = path.name if _COMMIT.fullmatch(path.name) else ""
    return path, commit, f"hf://{repository}@{commit or revision}"


def _counting(report: Callable[[int, int], None], total: int) -> Any:
    """Return a bar's class for huggingface_hub that draws nothing and tells `report` of the bytes of all files together.

    The library makes three bars of it: files that are done, bytes from the network and bytes on disk. The last two end
    alike; what is on disk includes what an interrupted download had left there, so that one is told. The bar's own total
    grows with every file that is begun, and would promise too early an end.
    """
    from tqdm.auto import tqdm  # type: ignore[import-untyped]  # it has no types

    class Counting(tqdm):  # type: ignore[misc]  # it has no types
        _told = threading.Lock()

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # The library's own name of the bar; other classes are not given its `name`.
            self._counts = kwargs.get("unit") == "B" and "Reconstruct" in str(kwargs.get("desc"))
            super().__init__(*args, **{**kwargs, "disable": True})
            self.n = kwargs.get("initial") or 0
            self.total = kwargs.get("total")

        def update(self, n: float | None = 1) -> None:
            with self._told:  # one thread a file
                self.n += n or 0
                if self._counts:
                    report(int(self.n), total)

    return Counting


def _without_graphs(patterns: list[str]) -> list[str]:
    return [pattern for pattern in patterns if ".onnx" not in pattern]


def _from_cache(options: dict[str, Any], patterns: list[str]) -> Path:
    """Return the cached snapshot; it lacks the ONNX variants when the repository has safetensors as well."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(**options, local_files_only=True, allow_patterns=patterns))
    except Exception as error:
        if type(error).__name__ != "IncompleteSnapshotError":
            raise
        return Path(snapshot_download(**options, local_files_only=True, allow_patterns=_without_graphs(patterns)))


def _refuse_pickle_only(names: list[str], uri: str) -> None:
    weights = [name for name in names if name.endswith((".safetensors", ".onnx"))]
    pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt"))]
    if pickles and not weights:
        raise UnsafeSource(
            "the repository has its weights as a pickle only, which can run code when it is read",
            field="uri",
            found=f"{uri}: {', '.join(pickles[:4])}",
            allowed="model.safetensors, or a .onnx file",
            fix="choose a revision with safetensors, or convert it where you trust it",
        )
    if not any(is_used(name) for name in names):
        raise SourceError("the repository holds nothing that can be used", field="uri", found=uri, allowed=", ".join(PATTERNS))


def _refuse_disk(error: Exception, folder: Path | None) -> None:
    """Tell the disk's errors from the network's; `folder` is the download cache (None: huggingface_hub's own).

    Raises:
        EnvironmentProblem: it is the disk.
    """
    if disk_full(error):
        message, fix = "the disk is full", "free space there"
    elif isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        message, fix = "the download cache cannot be written", "give this user the right to write there"
    else:
        return
    variable = "HF_HOME" if folder is None else "XDG_CACHE_HOME"
    raise EnvironmentProblem(
        message,
        field=str(folder or "the hub's cache"),
        found=str(error).splitlines()[0][:300],
        fix=f"{fix}, or put the cache elsewhere: {variable}=/path",
    ) from error


def _explain(error: Exception, repository: str, revision: str, uri: str) -> SourceError | EnvironmentProblem:
    kind = type(error).__name__
    if isinstance(error, SourceError):
        return error
    found = f"{uri}: {kind}: {error}".splitlines()[0][:300]
    if kind in ("RepositoryNotFoundError", "GatedRepoError"):
        message, fix = (
            "the repository is not there, or is not open to you",
            "check the name; for a private one set HF_TOKEN, in a cluster spec.credentials",
        )
    elif kind == "RevisionNotFoundError":
        message, fix = f"the repository has no revision {revision}", f"leave it out, or name a commit: hf://{repository}@COMMIT"
    elif kind in ("IncompleteSnapshotError", "LocalEntryNotFoundError", "OfflineModeIsEnabled"):
        message = "the hub cannot be reached and the model is not in the cache"
        return EnvironmentProblem(message, field="uri", found=found, fix="go online once, or name a local folder: file://")
    else:
        fix = "check the connection, HF_ENDPOINT and HF_TOKEN, or name a local folder: file://"
        return EnvironmentProblem("the hub cannot be asked", field="uri", found=found, fix=fix)
    return SourceError(message, field="uri", found=found, allowed="hf://OWNER/MODEL@REVISION", fix=fix)
