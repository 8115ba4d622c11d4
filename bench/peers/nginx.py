"""Peer: nginx from Debian with `grpc_pass`, one worker, its connections kept.

The package is unpacked, not installed: nothing of it starts by itself.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bench.harness.errors import BenchError
from bench.harness.paths import cache_folder

PACKAGE = "nginx"


def program() -> Path:
    """Return nginx: that of the system, or Debian's package unpacked into the benchmarks' cache.

    Raises:
        BenchError: there is none, and the package does not come.
    """
    if found := shutil.which("nginx"):
        return Path(found)
    folder = cache_folder() / "nginx"
    wanted = folder / "usr" / "sbin" / "nginx"
    if not wanted.exists():
        aside = folder.with_name("nginx.download")
        aside.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["apt-get", "download", PACKAGE], cwd=aside, check=True, capture_output=True, text=True)
            for package in aside.glob("*.deb"):
                subprocess.run(["dpkg", "-x", str(package), str(folder)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise BenchError(f"nginx is missing and Debian's package cannot be fetched: {error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return wanted


def configuration(port: int, backend: str, folder: Path) -> str:
    """Return a configuration that passes gRPC on; nothing is logged, and no connection is closed for its number of requests."""
    many = 100_000_000
    temporary = "\n".join(f"  {name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests {many};
  http2_max_concurrent_streams 1024;
{temporary}
  upstream backend {{ server {backend}; keepalive 64; keepalive_requests {many}; }}
  server {{ listen 127.0.0.1:{port} http2; location / {{ grpc_pass grpc://backend; }} }}
}}
"""


def command(port: int, backend: str) -> list[str]:
    """Write the configuration; return the command line."""
    folder = cache_folder() / "nginx.run"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "nginx.conf"
    path.write_text(configuration(port, backend, folder), encoding="utf-8")
    return [str(program()), "-c", str(path), "-e", "stderr"]
