"""A pod's small read-only HTTP endpoints: paths that answer GET, in a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Answering"]


class Answering:
    """Listens from the moment it is made. `paths` maps each path to a function that returns status and body."""

    def __init__(
        self,
        host: str,
        port: int,
        paths: Mapping[str, Callable[[], tuple[int, bytes]]],
        name: str,
        content_type: str = "text/plain; charset=utf-8",
    ) -> None:
        """Listen at `port` (0: any free one).

        Raises:
            OSError: the port is taken.
        """

        class Handler(BaseHTTPRequestHandler):
            timeout = 5.0

            def do_GET(self) -> None:
                answer = paths.get(self.path)
                status, content = answer() if answer else (404, f"there is {' and '.join(paths)}".encode())
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing: somebody asks every few seconds."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True, name=name).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
