"""Mosquitto from Debian as a test's broker: the system's, or the package unpacked into the cache, not installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.support.kube.process import free_port
from tests.support.processes import end
from tests.support.tiers import require

__all__ = ["Mosquitto", "program"]

_PACKAGES = ("mosquitto", "libcjson1", "libdlt2", "libwrap0")
"""With the libraries that a machine may lack."""


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stillhouse" / "mosquitto"


def program() -> tuple[Path, dict[str, str]]:
    """Return Mosquitto and its environment; end the test where there is none (`require`)."""
    if found := shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return Path(found), dict(os.environ)
    folder = _folder()
    wanted = folder / "usr" / "sbin" / "mosquitto"
    if not wanted.exists():
        aside = folder.with_name(f"mosquitto.{os.getpid()}")
        try:
            (aside / "packages").mkdir(parents=True)
            subprocess.run(
                ["apt-get", "download", *_PACKAGES],
                cwd=aside / "packages",
                check=True,
                capture_output=True,
                text=True,
                timeout=120,
            )
            for package in (aside / "packages").glob("*.deb"):
                subprocess.run(["dpkg", "-x", str(package), str(aside / "root")], check=True, capture_output=True)
            if not wanted.exists():
                shutil.rmtree(folder, ignore_errors=True)
                (aside / "root").rename(folder)
        except (OSError, subprocess.SubprocessError) as error:
            require("contract", f"Mosquitto is missing and Debian's package does not come ({error}); apt-get install mosquitto")
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    libraries = ":".join(str(each.parent) for each in folder.glob("usr/lib/*/libcjson.so.1"))
    return wanted, {**os.environ, "LD_LIBRARY_PATH": libraries}


class Mosquitto:
    """A broker on loopback that keeps its sessions over a restart. `lines` go into its configuration."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._program, self._environment = program()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        given = [
            "user root", "per_listener_settings false", "persistence true", f"persistence_location {folder}/",
            "log_dest stderr", f"listener {self.port} 127.0.0.1", *lines,
        ]  # fmt: skip
        (folder / "mosquitto.conf").write_text("\n".join(given) + "\n")

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self._folder / "log").open("ab") as log:
            command = [str(self._program), "-c", str(self._folder / "mosquitto.conf")]
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            except OSError:
                assert self._process.poll() is None, (self._folder / "log").read_text()

    def stop(self) -> None:
        """End it; sessions are written down."""
        if self._process is not None:
            end(self._process)

    def kill(self) -> None:
        """End it at once: what it has not written down is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        """Return what it has said."""
        return (self._folder / "log").read_text()

    def passwords(self, file: Path, users: dict[str, str]) -> None:
        """Write a file of passwords with Mosquitto's own program."""
        file.write_text("".join(f"{user}:{password}\n" for user, password in users.items()))
        program = self._program.parents[1] / "bin" / "mosquitto_passwd"
        subprocess.run([str(program), "-U", str(file)], check=True, env=self._environment)
