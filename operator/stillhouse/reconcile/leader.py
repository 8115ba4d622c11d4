"""Leadership by a Lease. It gives no fencing: what two leaders write is the same (docs/design/20261124-operator.md).

The holder renews every 2 s; who cannot for 10 s must stop at once, and the others wait for 15 s from the last change that they
saw, by their own clock. A holder that ends on purpose releases, and the next one takes over within a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from stillhouse.clients.kube.interface import Body, Kube, KubeError
from stillhouse.clients.kube.kinds import LEASE

__all__ = ["LEASE_S", "RENEW_DEADLINE_S", "RETRY_S", "Leadership"]

LEASE_S = 15
RENEW_DEADLINE_S = 10.0
RETRY_S = 2.0
_WAITING_S = 0.5


class Leadership:
    """One process' part in the election. `gained` and `lost` are called from `run`; after `lost` it ends."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        identity: str,
        *,
        gained: Callable[[], None],
        lost: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._namespace, self._name, self._identity = namespace, name, identity
        self._gained, self._lost = gained, lost
        self._clock = clock
        self._seen: tuple[Any, ...] = ()
        self._seen_at = 0.0
        self._renewed = 0.0
        self.leads = False

    @property
    def overdue(self) -> bool:
        """Return whether we hold a lease that we could not renew in time: another may lead by now."""
        return self.leads and self._clock() - self._renewed > RENEW_DEADLINE_S

    async def run(self) -> None:
        """Take part until cancelled, or until leadership is lost."""
        while True:
            started = self._clock()
            try:
                mine = await asyncio.wait_for(self._try(), RETRY_S * 2)
            except (KubeError, TimeoutError):
                mine = False
            if mine:
                self._renewed = started  # when it was asked for: the server's answer can have been under way for long
                if not self.leads:
                    self.leads = True
                    self._gained()
            elif self.overdue or (self.leads and self._taken()):
                self.leads = False
                self._lost()
                return
            await asyncio.sleep(RETRY_S if self.leads else _WAITING_S)

    async def release(self) -> None:
        """Give the lease back, so that nobody has to wait for its end."""
        if not self.leads:
            return
        self.leads = False
        try:
            live = await self._kube.get(LEASE, self._namespace, self._name)
            if live is not None and live["spec"].get("holderIdentity") == self._identity:
                await self._write(live, {**live["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()})
        except KubeError:
            return  # it runs out by itself

    async def _try(self) -> bool:
        live = await self._kube.get(LEASE, self._namespace, self._name)
        if live is None:
            meta = {"name": self._name, "namespace": self._namespace}
            body = {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": meta, "spec": self._spec(0)}
            self._note(await self._kube.create(LEASE, self._namespace, body))
            return True
        self._note(live)
        spec = live.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self._identity) and self._clock() - self._seen_at < int(
            spec.get("leaseDurationSeconds") or LEASE_S
        ):
            return False
        changes = int(spec.get("leaseTransitions") or 0) + (holder != self._identity)
        wanted = self._spec(changes)
        if holder == self._identity:
            wanted["acquireTime"] = spec.get("acquireTime") or wanted["acquireTime"]
        self._note(await self._write(live, wanted))
        return True

    def _taken(self) -> bool:
        return bool(self._seen) and self._seen[0] not in ("", self._identity)

    def _note(self, live: Body) -> None:
        """Remember when the record changed last, by our own clock: clocks of two nodes differ."""
        spec = live.get("spec") or {}
        seen = (spec.get("holderIdentity") or "", spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()

    def _spec(self, transitions: int) -> dict[str, Any]:
        moment = _now()
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_S,
            "acquireTime": moment,
            "renewTime": moment,
            "leaseTransitions": transitions,
        }

    async def _write(self, live: Body, spec: dict[str, Any]) -> Body:
        patch = {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}, "spec": spec}
        return await self._kube.patch(LEASE, self._namespace, self._name, patch)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
