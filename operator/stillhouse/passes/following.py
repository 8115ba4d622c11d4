"""Runs along: a worker that is not number 0 helps with what can be shared, and waits for the rest.

It writes nothing into the store. What is done it sees by the receipts that number 0 writes, so either may be killed at any
moment.
"""

from __future__ import annotations

import dataclasses
import socket
import tempfile
import time
from pathlib import Path
from typing import Final

from stillhouse.passes.base import Context, Settled, SilentProgress
from stillhouse.passes.runner import Runner, explaining, load_pass
from stillhouse.planning.fields import data_field
from stillhouse.planning.plan import Plan, Step

__all__ = ["Follower"]

_LOOK_S: Final = 0.5


class Follower(Runner):
    """The runner of a worker that helps."""

    def follow(self, plan: Plan) -> None:
        """Return when all that the plan's targets need is there.

        Raises:
            StillhouseError: a step cannot be carried out, or number 0 is gone.
            StepFailed: a step failed with an error that is not ours.
            KeyboardInterrupt: asked to stop.
        """
        with self._store.using():
            todo = plan.missing(self._settled)
            # All at first: what they import, which takes seconds, is there by the time that it is needed.
            can_help = {step.pass_name: load_pass(step.pass_name, self._passes).shared for step in todo}
            for step in todo:
                helped, shared = False, can_help[step.pass_name]
                with self._listener.busy(step.id) as progress:
                    while not self._settled(step):
                        # Once this one has helped, number 0 stores what came of it; where it knocks again, it has begun again.
                        if shared and (not helped or self._open()):
                            helped = self._help(plan, step)
                            continue
                        progress.update(0, None, "", "waiting for worker 0")
                        time.sleep(_LOOK_S)

    def _settled(self, step: Step) -> bool:
        return self._store.done(step.key, contents=False) is not None

    def _open(self) -> bool:
        """Return whether number 0 waits for the others."""
        try:
            socket.create_connection((self._workers.host, self._workers.port), timeout=_LOOK_S).close()
        except OSError:
            return False
        return True

    def _help(self, plan: Plan, step: Step) -> bool:
        """Carry a step out with the others; return whether it was needed."""
        work = load_pass(step.pass_name, self._passes)
        inputs = {role: self.artifact(plan.step(parent)) for role, parent in step.parents.items()}
        workers = dataclasses.replace(self._workers, settled=lambda: self._settled(step))
        with tempfile.TemporaryDirectory() as out:
            context = Context(
                out=Path(out),
                scratch=self._store.root / "work" / step.key,
                threads=self._machine.threads,
                seed=int(step.config.get("seed", 0)),
                progress=SilentProgress(),
                field=data_field(step),
                workers=workers,
            )
            self._listener.note(f"{step.id}: worker {workers.index} of {workers.count}")
            with explaining(step, self._store.root):
                try:
                    work.run(self._config(work, step), inputs, context)
                except Settled:
                    return False
        return True
