"""Rounds a network's numbers as INT8 will while it learns, and lets gradients pass as if it did not.

Every layer's input is rounded within a range that was read off calibration rows, its weights within their own, by the very rules
of `passes/compress/static_graph.py`; rounding's gradient is 1 within the range and 0 beyond (Jacob et al. 2017,
arXiv:1712.05877; the straight-through estimator). Scales and zero points are buffers: a checkpoint carries them, and a run that
was stopped goes on the same. torch's own `fake_quantize_*` operators do the rounding, forward and backward.

Before the first step the network is balanced as static quantization would balance it (`passes/compress/smooth.py`), and these
factors stay: weights learn on a grid that does not move under them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stillhouse.errors import DataError, SourceError, SpecError
from stillhouse.passes.compress.learned import Learned
from stillhouse.passes.compress.ranges import UINT8_STEPS, demand_finite, extremes_of, ranges_of
from stillhouse.passes.compress.smooth import factors
from stillhouse.passes.distill.quantize.config import FIELD, QuantizeConfig, reads_before
from stillhouse.passes.distill.quantize.sites import (
    Site,
    apply_layer,
    behind_norms,
    rounded_table,
    rounded_weights,
    sites_of,
)
from stillhouse.passes.models.device import device_of
from stillhouse.passes.models.network import Network

__all__ = ["Quantized", "Quantizer"]


@dataclass(frozen=True, slots=True)
class Quantized:
    """What was rounded: layers, and of them those balanced before; tables. `rows` were read for ranges, so many times."""

    layers: int
    balanced: int
    tables: int
    rows: int
    readings: int

    @property
    def told(self) -> str:
        """What it was, in words."""
        return (
            f"learned in INT8: {self.layers} layers ({self.balanced} balanced), {self.tables} tables;"
            f" ranges read {self.readings} times off {self.rows} rows"
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return asdict(self)


class Quantizer(nn.Module):  # type: ignore[misc]
    """The rounding of one stage."""

    scale: Tensor
    zero: Tensor
    readings: Tensor

    def __init__(self, network: Network, config: QuantizeConfig, steps: int, rows: Sequence[tuple[Tensor, ...]]) -> None:
        """Find what is rounded and its ranges; from here on the network rounds.

        `steps`: how many there will be. `rows`: batches that ranges are read off, as the network takes them; padding counts.

        Raises:
            SpecError: the network has no layer that INT8 would round.
            SourceError: an activation is not finite.
        """
        super().__init__()
        self._network = (network,)  # in a tuple: no part of this module
        self._config, self._steps, self._rows = config, steps, rows
        self._most = 63 if config.reduce_range else 127
        self._rounds, self._seen = False, dict[str, list[NDArray[np.float32]]]()
        self._watches = False
        sites = {site.name: site for site in sites_of(network)}
        for site in sites.values():
            site.module.forward = partial(self._table if site.is_table else self._layer, site)
        try:
            self._begin(network, sites)
        except BaseException:
            self._restore(sites.values())
            raise

    def forward(self) -> None:
        """Compute nothing: it is a module for the sake of its buffers."""

    def begin(self, step: int) -> None:
        """Read the ranges again before `step` (from 0), where it is time.

        Raises:
            DataError: an activation is no longer finite, which rounding would hide.
        """
        if not reads_before(step, self._steps):
            return
        try:
            self._read()
        except SourceError as error:
            raise DataError(
                f"training went astray before step {step + 1:,} of {self._steps:,}: an activation is no longer a finite number",
                field=f"{FIELD}.learningRate",
                found=error.problem.found,
                allowed="finite numbers",
                fix="lower learningRate",
            ) from error

    def finish(self) -> tuple[Quantized, tuple[Learned, ...]]:
        """Leave the network as it would be without; return what was rounded, and how each layer's input is."""
        self._restore((*self._layers.values(), *self._tables))
        learned = tuple(
            Learned(
                site.tensor,
                float(self.scale[number]),
                int(self.zero[number]),
                tuple(self._factors[name].flatten().tolist()) if name in self._factors else (),
            )
            for number, (name, site) in enumerate(self._layers.items())
        )
        rows = sum(len(row[0]) for row in self._rows)
        told = Quantized(len(learned), len(self._factors), len(self._tables), rows, int(self.readings))
        return told, learned

    @property
    def _factors(self) -> Mapping[str, Tensor]:
        """Return layer → by what its input's channels are divided, of those that are balanced."""
        return {name: self.get_buffer(key) for name, key in self._balanced.items()}

    def _begin(self, network: Network, sites: Mapping[str, Site]) -> None:
        self._numbers: dict[str, int] = {}
        self._balanced: dict[str, str] = {}
        self._asked: set[str] = set()
        seen = extremes_of(self._runs())
        self._layers = {name: site for name, site in sites.items() if name in seen}
        self._tables = [site for name, site in sites.items() if site.is_table and name in self._asked]
        self._restore(site for name, site in sites.items() if name not in seen and site not in self._tables)
        if not self._layers:
            raise SpecError(
                "nothing in the student is rounded by INT8",
                field=FIELD,
                found=f"{type(network.body).__name__}, which asks no linear layer and no convolution of torch's",
                allowed="a network with linear layers or convolutions",
                fix="remove qat",
            )
        self._numbers = {name: number for number, name in enumerate(self._layers)}
        groups = behind_norms(network, self._layers, self._rows[0]) if self._config.balance else {}
        for group in groups.values():
            peaks = [site.module.weight.detach().abs().amax(0).numpy() for site in (self._layers[name] for name in group)]
            scale = factors(seen[group[0]].channels, np.maximum.reduce(peaks), self._config.balance)
            if (scale != 1.0).any():
                for name in group:
                    self._balanced[name] = f"balance-{self._numbers[name]}"
                    self.register_buffer(self._balanced[name], torch.from_numpy(scale.copy()))
        self.register_buffer("scale", torch.ones(len(self._layers)))
        self.register_buffer("zero", torch.zeros(len(self._layers), dtype=torch.int32))
        self.register_buffer("readings", torch.zeros((), dtype=torch.int64))
        self._read()
        self._rounds = True

    def _read(self) -> None:
        """Read every layer's range off the calibration rows."""
        config = self._config
        found = ranges_of(extremes_of(self._runs()), self._runs(), config.ranges, config.percentile)
        for name, number in self._numbers.items():
            self.scale[number], self.zero[number] = found[name].rounding
        self.readings += 1

    def _runs(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Yield what every layer is given, batch by batch: balanced and not yet rounded, [positions, channels]."""
        (network,) = self._network
        learning = network.training
        network.eval()
        device = device_of(network)
        self._watches = True
        try:
            for number, row in enumerate(self._rows):
                with torch.no_grad():
                    network(*(each.to(device) for each in row))
                values = {name: np.concatenate(parts) for name, parts in self._seen.items()}
                self._seen.clear()
                demand_finite(values, number + 1)
                yield values
        finally:
            self._watches = False
            self._seen.clear()
            network.train(learning)

    def _layer(self, site: Site, given: Tensor) -> Tensor:
        module, number = site.module, self._numbers.get(site.name)
        weight: Tensor = module.weight
        key = self._balanced.get(site.name)
        if key is not None:
            factor = self.get_buffer(key)
            given, weight = given / factor, weight * factor
        if self._watches:
            last = given.detach() if isinstance(module, nn.Linear) else given.detach().movedim(1, -1)
            self._seen.setdefault(site.name, []).append(last.reshape(-1, last.shape[-1]).float().cpu().numpy())
        if self._rounds and number is not None:
            given = torch.fake_quantize_per_tensor_affine(given, self.scale[number], self.zero[number], 0, UINT8_STEPS)
            weight = rounded_weights(weight, self._most)
        return apply_layer(module, given, weight)

    def _table(self, site: Site, ids: Tensor) -> Tensor:
        self._asked.add(site.name)
        rows: Tensor = _plain(site.module)(ids)
        return rounded_table(rows, site.module.weight) if self._rounds else rows

    def _restore(self, sites: Any) -> None:
        for site in sites:
            site.module.__dict__.pop("forward", None)


def _plain(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a module's own forward, which another one stands before."""
    return partial(type(module).forward, module)
