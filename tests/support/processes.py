"""Processes of ours that tests start: asking their endpoints, and ending them."""

from __future__ import annotations

import signal
import subprocess
import urllib.error
import urllib.request

__all__ = ["ask", "end"]


def ask(port: int, path: str, timeout_s: float = 5.0) -> tuple[int, str]:
    """Return status and text of an endpoint on loopback; 0 and the reason where it does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=timeout_s) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, also one that was stopped, and wait for it."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
