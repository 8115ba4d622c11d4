"""The probes of a serving pod: `/ready` and `/live`, answered in a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Probes"]


class Probes:
    """Listens from the start, so that a pod which takes long is seen to take long. Each question returns what is wrong, or ""."""

    def __init__(self, host: str, port: int, *, ready: Callable[[], str], live: Callable[[], str]) -> None:
        questions = {"/ready": ready, "/live": live}

        class Handler(BaseHTTPRequestHandler):
            timeout = 5.0

            def do_GET(self) -> None:
                question = questions.get(self.path)
                wrong = question() if question else "there is /ready and /live"
                status = 404 if question is None else 503 if wrong else 200
                content = (wrong or "ok").encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing: a probe comes every few seconds."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True, name="probes").start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
