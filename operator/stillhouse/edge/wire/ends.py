"""How our ends of connections to servers end."""

from __future__ import annotations

from typing import Any

__all__ = ["NeverHalfOpen"]


class NeverHalfOpen:
    """Of a client's protocol: does not ask for a connection that is half open. Over TLS there is none, and asyncio would warn."""

    def eof_received(self) -> bool | None:
        """Take the server's end, and end too."""
        protocol: Any = super()
        protocol.eof_received()
        return None
