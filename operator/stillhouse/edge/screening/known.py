"""What a model takes, as a backend of it tells: asked once, kept, and asked anew where it may be another one by now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from stillhouse.edge.guard.shapes import Model
from stillhouse.edge.oip.models import Ask, Told
from stillhouse.edge.screening.settings import ScreenSettings
from stillhouse.edge.status import Code, RpcError

__all__ = ["Known"]

_WITHOUT_CONFIG = frozenset({Code.UNIMPLEMENTED, Code.NOT_FOUND})
"""A server of the protocol that is not Triton: it tells metadata alone."""

_IMAGES = "image"

_log = logging.getLogger(__name__)


class Known:
    """What one model takes. `stamp`: changes where a backend has come or gone. `asked`: questions so far."""

    def __init__(
        self, name: str, ask: Ask, settings: ScreenSettings, clock: Callable[[], float], stamp: Callable[[], object] = lambda: 0
    ) -> None:
        self._name, self._settings, self._clock, self._stamp_of = name, settings, clock, stamp
        self._server = Told(name, ask)
        self._model: Model | None = None
        self._stamp: object = None
        self._asking: asyncio.Task[None] | None = None
        self._next = -1.0
        self._tried: object = None
        self.asked = 0
        self.trouble = ""
        """Why it is not known, or could not be asked anew; empty where nothing is wrong."""

    async def model(self) -> Model | None:
        """Return what the model takes, None where nobody tells. What is kept is returned while it is asked anew."""
        if self._model is not None:
            if self._stamp_of() != self._stamp and self._asking is None and self._due():
                self._begin()
            return self._model
        if self._asking is not None or self._due():
            await self._told()
        return self._model

    async def anew(self, before: Model) -> Model:
        """Return what the model takes by now: a request did not fit `before`. Not oftener than the settings say."""
        if self._model is before and (self._asking is not None or self._due()):
            await self._told()
        return self._model or before

    def _due(self) -> bool:
        return self._clock() >= self._next or self._stamp_of() != self._tried

    async def _told(self) -> None:
        """Wait for the answer; all who wait have one question."""
        await asyncio.shield(self._asking or self._begin())

    def _begin(self) -> asyncio.Task[None]:
        self._asking = asyncio.get_running_loop().create_task(self._learn())
        return self._asking

    async def _learn(self) -> None:
        self.asked += 1
        self._tried = stamp = self._stamp_of()
        try:
            async with asyncio.timeout(self._settings.patience_s):
                self._model = await self._read()
            self._stamp, self.trouble = stamp, ""
        except (RpcError, TimeoutError, ValueError) as error:
            trouble = str(error) or f"nobody told within {self._settings.patience_s:g} s"
            if trouble != self.trouble:
                _log.warning("what %s takes is not known: %s", self._name, trouble)
            self.trouble = trouble
        finally:
            self._next = self._clock() + self._settings.again_s
            self._asking = None

    async def _read(self) -> Model:
        metadata = await self._server.metadata()
        config: Any = None
        try:
            config = await self._server.config()
        except RpcError as error:
            if error.code not in _WITHOUT_CONFIG:
                raise
        return self._model_of(metadata, config)

    def _model_of(self, metadata: Any, config: Any) -> Model:
        settings = self._settings
        alone = len(metadata.inputs) == 1
        optional, images = {each.name for each in metadata.inputs if not alone}, False  # without a configuration nobody says
        if config is not None:
            optional = {each.name for each in config.input if each.optional}
            images = "stillhouse.task" in config.parameters and _IMAGES in config.parameters["stillhouse.task"].string_value
        inputs = [
            settings.taken(each.name, each.datatype, tuple(each.shape), optional=each.name in optional, images=images)
            for each in metadata.inputs
        ]
        if config is not None:
            batch = min(config.max_batch_size, settings.rows)
        else:  # rows come first in every input, or they are nobody's affair
            batch = settings.rows if all(each.shape[:1] == (-1,) for each in inputs) else 0
        return Model(inputs, batch)
