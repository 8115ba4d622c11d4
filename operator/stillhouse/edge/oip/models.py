"""What a server of the protocol tells of its models: the one place that asks, for whoever has to know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from stillhouse.edge.oip.configs import CONFIG, labels_in
from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.status import RpcError

__all__ = ["Ask", "Told", "names_of"]

Ask = Callable[[str, bytes], Awaitable[bytes]]
"""Asks somebody who has the model: method and request to answer, or an RpcError."""


class Told:
    """What is told of `model`. Nothing is kept: who asks knows how long an answer holds.

    Raises, all of it: RpcError, as the question ended, or INVALID_ARGUMENT where the answer is none.
    """

    def __init__(self, model: str, ask: Ask) -> None:
        self._ask = ask
        self._request = message("ModelMetadataRequest")(name=model).SerializeToString()  # as a ModelConfigRequest, byte by byte

    async def metadata(self) -> Any:
        """Return the `ModelMetadataResponse`."""
        return parsed(message("ModelMetadataResponse"), await self._ask(f"/{SERVICE}/ModelMetadata", self._request))

    async def config(self) -> Any:
        """Return the `ModelConfig`."""
        return parsed(CONFIG.message("ModelConfigResponse"), await self._config()).config

    async def labels(self) -> Any:
        """Return the classes' names, as our own models tell them; None where it tells none.

        Raises:
            ValueError: what it says is no JSON.
        """
        return labels_in(await self._config())

    async def _config(self) -> bytes:
        return await self._ask(f"/{SERVICE}/ModelConfig", self._request)


async def names_of(ask: Ask) -> list[str]:
    """Return the names of a server's models; empty where it does not tell them."""
    # A server of ours keeps its index to itself; who has been asked for what it tells.
    for name, models in (("RepositoryIndex", "models"), ("ModelStatistics", "model_stats")):
        try:
            told = parsed(message(f"{name}Response"), await ask(f"/{SERVICE}/{name}", b""))
        except (RpcError, TimeoutError):
            continue
        return sorted({str(each.name) for each in getattr(told, models)})
    return []
