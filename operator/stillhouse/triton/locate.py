"""Finds the server inside the `nvidia-pytriton` package and lays out what it needs beside it.

The package is located, never imported: its Python API is not for model repositories and importing it costs a second.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import shutil
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from stillhouse.errors import MissingPackages, ServerError
from stillhouse.extras import install

__all__ = ["Installation", "find", "libpython_folder", "prepare_backends"]

_OURS = Path(__file__).resolve().parent / "backend"
_BACKENDS = {
    "stillhouse": "model.py", "stillhouse_pre": "pre.py", "stillhouse_post": "post.py", "stillhouse_step": "step.py",
    "stillhouse_copy": "copy.py", "stillhouse_preprocess": "preprocess.py", "stillhouse_half": "half.py",
}  # fmt: skip
"""Name of each of our backends → its file."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the server and its parts lie.

    `packages` is the folder of installed packages and `source` that of `stillhouse`: the backend's process starts
    Python isolated and has to be told.
    """

    binary: Path
    backends: Path
    stub: Path
    caches: Path
    libraries: Path
    libpython: Path
    packages: Path
    source: Path


def find(home: str = "") -> Installation:
    """Locate the server: that of `nvidia-pytriton`, or the one that is installed in the folder `home`.

    Raises:
        MissingPackages: `nvidia-pytriton` is not installed, or has no stub for this Python.
        ServerError: there is no server in `home`; this Python has no shared library, which the stub is linked against.
    """
    if home:
        return _installed(Path(home))
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackages(
            "the embedded server is not installed",
            found="no package nvidia-pytriton",
            fix=install("serve"),
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    server = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        have = sorted(path.name for path in (server / "python_backend_stubs").glob("*"))
        raise MissingPackages(
            "the embedded server has no backend for this Python",
            found=version,
            allowed=", ".join(have) or "none",
            fix="create the environment with one of those versions: python3.11 -m venv .venv",
        )
    return Installation(
        binary=server / "bin" / "tritonserver",
        backends=server / "backends",
        stub=stub,
        caches=server / "caches",
        libraries=package.parent / "nvidia_pytriton.libs",
        libpython=libpython_folder(),
        packages=package.parent,
        source=Path(__file__).resolve().parents[2],
    )


def _installed(home: Path) -> Installation:
    binary, backends = home / "bin" / "tritonserver", home / "backends"
    stub = backends / "python" / "triton_python_backend_stub"
    for needed in (binary, stub):
        if not needed.is_file():
            raise ServerError(
                "this is not the image of runtime triton-nvidia",
                field=str(needed),
                found="no such file",
                allowed="an image of Dockerfile.nvidia (docs/serving.md)",
                fix="name that image in the chart's value images.serveNvidia; without GPUs: serve.runtime: triton-ort-cpu",
            )
    return Installation(
        binary=binary,
        backends=backends,
        stub=stub,
        caches=home / "caches",
        libraries=home / "lib",
        libpython=libpython_folder(),
        packages=Path(sysconfig.get_path("purelib")),
        source=Path(__file__).resolve().parents[2],
    )


def libpython_folder() -> Path:
    """Return the folder of this Python's shared library.

    The running interpreter's own library comes first: another build of the same version would look for its standard
    library elsewhere.

    Raises:
        ServerError: there is none; the message says how to get it for this kind of Python.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = f"libpython{version}.so.1.0"
    folders = [sysconfig.get_config_var("LIBDIR"), Path(sys.base_prefix) / "lib"]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    if multiarch:
        folders += [Path("/usr/lib") / multiarch, Path("/lib") / multiarch]
    folders += ["/usr/lib64", "/usr/lib", "/usr/local/lib"]
    for folder in folders:
        if folder and (Path(folder) / name).is_file():
            return Path(folder)
    if sys.base_prefix in ("/usr", "/usr/local") and Path("/etc/debian_version").exists():
        fix = f"sudo apt-get install libpython{version}"
    elif Path("/etc/redhat-release").exists() and sys.base_prefix == "/usr":
        fix = f"sudo dnf install python{version}-libs"
    elif "pyenv" in sys.base_prefix:
        fix = f"PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force {sys.version.split()[0]}"
    else:
        fix = f"use a Python {version} built with --enable-shared (uv python install {version} is)"
    raise ServerError(
        "the shared library of Python, which the server's backend needs, is not there",
        field=name,
        found=f"not in {', '.join(str(folder) for folder in folders if folder)}",
        fix=fix,
    )


def prepare_backends(installation: Installation, cache: Path) -> Path:
    """Return a backend directory: Triton's Python backend with the stub beside it, ours, and what else the installation has.

    It is kept in `cache` under the digest of its contents, so that two versions never share one and a second start
    copies nothing.

    Raises:
        ServerError: it cannot be written.
    """
    python = installation.backends / "python"
    sources = {
        "python/libtriton_python.so": python / "libtriton_python.so",
        "python/triton_python_backend_utils.py": python / "triton_python_backend_utils.py",
        "python/triton_python_backend_stub": installation.stub,
        **{f"{name}/model.py": _OURS / file for name, file in _BACKENDS.items()},
    }
    others = [
        folder
        for folder in sorted(installation.backends.iterdir())
        if folder.is_dir() and folder.name != "python" and folder.name not in _BACKENDS
    ]
    try:
        digest = hashlib.sha256()
        for name, source in sources.items():
            digest.update(name.encode())
            digest.update(hashlib.sha256(source.read_bytes()).digest())
        digest.update("".join(f"{folder}\n" for folder in others).encode())
        folder = cache / f"backends-{digest.hexdigest()[:16]}"
        if folder.is_dir():
            return folder
        cache.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".backends-", dir=cache))
        try:
            for name, source in sources.items():
                target = aside / name
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(source, target)
                target.chmod(0o755 if name.endswith("stub") else 0o644)
            for other in others:  # of an installation that brings more, with gigabytes of libraries
                (aside / other.name).symlink_to(other)
            aside.chmod(0o755)
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():  # another start was first: its copy is the same
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        way = "free space there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "give this user the right to write there"
        raise ServerError(
            "the server's backend cannot be laid out",
            field=str(cache),
            found=str(error),
            fix=f"{way}, or put the cache elsewhere: XDG_CACHE_HOME=/path",
        ) from error
    return folder
