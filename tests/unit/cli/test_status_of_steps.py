"""What `still status` says of a revision that is steps before another model and has no server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.unit.cli.conftest import Still

from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.edge import record

FILE = """\
apiVersion: stillhouse.io/v1alpha1
kind: DistilledModel
metadata: {name: shake}
spec:
  source: {uri: "file://none", task: text-classification}
  edge:
    preprocess: {model: health, steps: [{kind: window, length: 8, hop: 4}]}
"""


def test_who_runs_steps_is_told_and_not_that_a_server_is_down(still: Still, tmp_path: Path) -> None:
    Path("shake.yaml").write_text(FILE)
    assert still("build", "shake.yaml").code == 0
    store = LocalStore(tmp_path / "store")

    def told() -> tuple[str, dict[str, Any]]:
        model = json.loads(still("status", "shake", "-o", "json").out)
        found = model[0] if isinstance(model, list) else model
        return still("status", "shake").out, {each["type"]: each for each in found["conditions"]}

    text, conditions = told()
    assert "steps" in text and "run by no gateway here" in text and "ServerDown" not in text and "server  none" not in text
    assert (conditions["Ready"]["status"], conditions["Ready"]["reason"]) == ("False", "GatewayDown")
    assert "still edge" in conditions["Available"]["message"] and "shake.yaml" in conditions["Available"]["message"]

    file = record.path(store, "shake")
    file.parent.mkdir(parents=True)
    record.write(file, "shake", {"grpc": "127.0.0.1:8101"}, "edge.json", tls=False)  # of this process, which lives
    text, conditions = told()
    assert "run by a gateway" in text and "127.0.0.1:8101" in text
    assert {(conditions[each]["status"], conditions[each]["reason"]) for each in ("Available", "Ready")} == {
        ("True", "GatewayServes")
    }
