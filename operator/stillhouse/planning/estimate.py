"""What a plan will cost: time, memory and disk, from sizes that are known before anything runs.

The rates below were measured on 2 cores of a server CPU with AVX-512; a machine's own receipts correct them: `rates`
maps a pass to seconds per unit of work, as the last run on this machine showed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stillhouse.planning.disk import disk
from stillhouse.planning.macs import MEAN_TOKENS, asked_macs, macs_per_token, student_macs, training_macs, usual_macs
from stillhouse.planning.manifest import PASSES, PassEntry
from stillhouse.planning.plan import Environment, Plan, Step
from stillhouse.planning.students import form_of, is_small

__all__ = [
    "FIT_ROWS",
    "FIT_ROWS_ASKED",
    "PROJECTION_ROWS",
    "ROUNDING",
    "STUDENT_SHARE",
    "TORCH_SECONDS",
    "Estimate",
    "estimate",
    "start_of_torch",
    "work_of",
]

GIB = 2**30
TORCH_BYTES = int(0.9 * GIB)
"""What torch and transformers take by themselves."""

TORCH_SECONDS = 8.0
"""Importing torch, transformers and the teacher's classes: 5 to 10 s of one core, with everything in the page cache."""
TOKENS_ALONE = 3
"""Tokens of a row that asks the teacher about a single one: it stands between two special ones."""
SECONDS_PER_MAC_ALONE = 7.0e-11
"""Of such rows: so short that a multiply-accumulate takes three times as long as in texts."""
FIT_ROWS, FIT_ROWS_ASKED = 32_768, 4_096
"""Rows that a residual student's token vectors are fitted to: out of the teacher's outputs, or by asking it here."""
SECONDS_PER_NUMBER_FITTED = 1.0e-6
"""Of the ridge regression, per row and number of an embedding: 20 to 30 CPU-seconds for 32,768 rows of 384."""
PROJECTION_ROWS = 2_048
"""Rows that an encoder's projection is fitted to: teacher and student read them; the regression itself takes no second."""

GRAPHS = (
    *("export", "quantize-dynamic", "quantize-static", "halve", "sensitivity"),
    *("quantize-int4", "sensitivity-mixed", "quantize-mixed", "quantize-trained"),
)
"""Passes that make, change or try a graph: as long as the model is large."""
ELSEWHERE = ("export-openvino", "export-litert", "export-coreml", "export-tensorrt")
"""Passes that write a model for another runtime, by a converter of its own."""

RANKING_MACS = 250_000
"""Of a stage that sets weights to 0, per weight: it sorts them a hundred times, 0.25 µs each, told in multiply-accumulates."""

ROUNDING = 2.0
"""How much longer a stage takes that rounds: more passes over each activation and weight, forward and backward."""
READINGS = 9
"""So often it reads ranges off its calibration rows, forwards, in small batches: a row as long as one trained on."""

MAKING_ROWS = {"pool-data", "deduplicate", "balance", "augment"}
"""Passes that make rows of rows."""

STUDENT_SHARE = 0.3
"""What export, quantization and sensitivity take of a student, as a share of what they take of a teacher such as MiniLM."""
TRIAL_SECONDS = 6.0
"""Of a search, to a shape beside its training: made, exported, quantized, timed."""
SERVER_SECONDS = 1.5
"""Starting a server with a candidate, loading and warming it."""
SECONDS_PER_REQUEST = 1.0e-3
"""Of the gate, to a small student: a row that is judged, or a request of the load."""

SECONDS_PER_UNIT: dict[str, float] = {
    "import-model": 1.0e-8,  # per byte
    "import-data": 1.0e-5,  # per row
    "import-step": 0.2,
    "import-revision": 0.2,
    "join-steps": 0.02,
    "pack-steps": 0.2,
    "pool-data": 1.0e-5,  # per row
    "deduplicate": 1.0e-4,  # per row
    "balance": 1.0e-5,  # per row
    "augment": 1.5e-4,  # per row
    "data-report": 3.0e-4,  # per row
    "teacher-outputs": 2.2e-11,  # per multiply-accumulate of a forward pass
    "combine-outputs": 4.0e-6,  # per row and teacher
    "fine-tune": 4.0e-11,  # as distill's; a large network's products are quicker
    "student": 1.0,  # its parts differ too much for one unit: the work is the seconds that they take here
    "search-student": 1.0,  # likewise
    "distill": 1.0e-10,  # per multiply-accumulate of forward and backward (three forwards)
    "export": 25.0,  # of a model of 22 M parameters; see STUDENT_SHARE
    "quantize-dynamic": 2.0,
    "quantize-static": 15.0,
    "quantize-trained": 3.0,
    "halve": 1.0,
    "sensitivity": 12.0,
    "quantize-int4": 15.0,
    "sensitivity-mixed": 60.0,
    "quantize-mixed": 30.0,
    "teacher-reference": 2.2e-11,
    "onnx-teacher-reference": 2.2e-11,
    "gate": 1.0,  # the work is the seconds that it takes here, as the student's
    "index": 2.0e-3,  # per row
    "cascade": 2.0e-3,  # per row
    "cut": 4.0e-3,  # per row: twice, whole and in halves
    "export-openvino": 13.0,  # of a model of 22 M parameters, its answers compared; see STUDENT_SHARE
    "export-litert": 40.0,
    "export-coreml": 10.0,
    "export-tensorrt": 1.0,  # a script is written and the graph copied; the engine is built elsewhere
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds, bytes of memory at the peak, bytes on disk (see `disk`). `guessed` when sizes had to be assumed."""

    seconds: float
    memory: int
    disk: int
    guessed: bool = False


def _shape(step: Step, plan: Plan, env: Environment) -> dict[str, Any]:
    """Return the teacher's shape: hiddenSize, layers, vocabularySize, rows of the data that the step reads."""
    source = plan.find("resolve/source")
    info: dict[str, Any] = dict(env.pins[source.uri].info) if source and source.uri in env.pins else {}
    if source and info.get("format") == "onnx":  # its shape is not known before it is read, its size is
        info["bytes"] = env.pins[source.uri].size
    if step.pass_name == "combine-outputs":  # as many rows as each of what it combines
        step = next(plan.step(parent) for role, parent in step.parents.items() if role.startswith("outputs-"))
    for role in ("data", "training", "outputs"):
        parent = plan.find(step.parents.get(role, ""))
        found = _rows(parent, plan, env) if parent is not None else None
        if found is not None:
            info["rows"], info["guessed"] = found
            break
    return info


def _rows(data: Step, plan: Plan, env: Environment) -> tuple[int, bool] | None:
    """Return how many rows an import gives, or what is made of imports, and whether that is a guess; None: no telling."""
    if data.uri in env.pins:
        pin, limit = env.pins[data.uri], data.config.get("maxRows")
        rows = pin.info.get("rows")
        return min(rows, limit) if rows and limit else rows or limit or max(1, pin.size // 200), not rows
    parents = (plan.find(data.parents.get(role, "")) for role in ("data", "unlabelled"))
    found = [each for each in (_rows(parent, plan, env) for parent in parents if parent is not None) if each is not None]
    if not found or data.pass_name not in MAKING_ROWS:
        return None
    # What is left of repetitions, or added to rare classes, only the rows can tell: as many as there were.
    return sum(rows for rows, _ in found) * (1 + int(data.config.get("copies") or 0)), True


def _from_factory(plan: Plan) -> bool:
    source = plan.find("resolve/source")
    return bool(source and source.config.get("factory"))


def _factory_shape(plan: Plan, env: Environment) -> tuple[int, int]:
    """Guess a factory's network by its weights: one layer as wide as they make it (12 hidden² weights a layer)."""
    source = plan.find("resolve/source")
    size = env.pins[source.uri].size if source and source.uri in env.pins else 4_000_000
    return max(8, int((size / 4 / 12) ** 0.5)), 1


def _student_seconds(
    step: Step, info: Mapping[str, Any], rows: float, per_text: float, per_token: float, task: str = ""
) -> float:
    """Return what making a student takes. A text or a token costs the teacher so many multiply-accumulates."""
    whole = int(info.get("vocabularySize") or 30_000)
    seconds = 1.5e-4 * whole
    static = step.config.get("init") == "static" and not step.config.get("factory")
    if static:  # its tokens start as what the teacher says of each alone
        kept = min(whole, int(step.config.get("vocabularySize") or whole))
        seconds += kept * TOKENS_ALONE * per_token * SECONDS_PER_MAC_ALONE
    if static and step.config.get("architecture") == "residual":
        known = "outputs" in step.parents
        fitted = min(rows, FIT_ROWS if known else FIT_ROWS_ASKED)
        seconds += fitted * int(info.get("hiddenSize") or 768) * SECONDS_PER_NUMBER_FITTED
        seconds += 0.0 if known else fitted * per_text * SECONDS_PER_UNIT["teacher-outputs"]
    elif _fits_projection(step, info, task):
        own = float(student_macs(step.config, info)) / per_token  # what the student does, as a share of what the teacher does
        seconds += min(rows, PROJECTION_ROWS) * per_text * (1 + own) * SECONDS_PER_UNIT["teacher-outputs"]
    return seconds


def _fits_projection(step: Step, info: Mapping[str, Any], task: str) -> bool:
    """Whether a student has a new projection: an encoder of its own width, or of token vectors, one of another kind."""
    init, width = step.config.get("init"), step.config.get("hiddenSize")
    if step.config.get("factory") or init == "random":
        return False
    if is_small(step.config):
        return True
    return init == "static" or (task == "sentence-embedding" and bool(width) and width != info.get("hiddenSize"))


def work_of(step: Step, plan: Plan, env: Environment) -> tuple[float, dict[str, Any]]:
    """Return (units of work, the sizes it was computed from) of a step."""
    info = _shape(step, plan, env)
    rows = float(info.get("rows") or 1000)
    hidden, layers = int(info.get("hiddenSize") or 768), int(info.get("layers") or 12)
    if step.config.get("factory") or _from_factory(plan):
        hidden, layers = _factory_shape(plan, env)
    source = plan.find("resolve/source")
    shape = {"hiddenSize": hidden, "layers": layers, "image": form_of(source.config) if source else None}
    tokens = min(MEAN_TOKENS, int(step.config.get("maxLength") or MEAN_TOKENS))
    teacher = info["bytes"] // 4 if "bytes" in info else macs_per_token(hidden, layers, 4 * hidden)
    match step.pass_name:
        case "import-model":
            return float(env.pins[step.uri].size if step.uri in env.pins else 1e8), info
        case "import-data":
            pin = env.pins.get(step.uri)
            known = pin.info.get("rows") if pin else None
            return float(known or (pin.size // 200 if pin else 1000)), info
        case "teacher-outputs" | "teacher-reference" | "onnx-teacher-reference":
            return rows * tokens * asked_macs(step, plan, env, shape, teacher), info
        case "combine-outputs":
            return rows * len(step.config["weights"]), info
        case "fine-tune":
            return rows * tokens * int(step.config["epochs"]) * 3 * teacher, info
        case "student":
            task = str(source.config.get("task", "")) if source else ""
            return _student_seconds(step, info, rows, tokens * teacher, teacher, task), info
        case "distill":
            macs = training_macs(step, plan, step.config["losses"], shape, asked_macs(step, plan, env, shape, teacher))
            ranked = usual_macs(step, plan, shape) if "weights" in step.config.get("prune", {}) else 0
            seen = rows * int(step.config["epochs"])
            if "quantize" in step.config:
                seen = ROUNDING * seen + READINGS * int(step.config["quantize"]["samples"])
            return seen * tokens * macs + RANKING_MACS * ranked, info
        case "search-student":
            macs = training_macs(step, plan, step.config["stage"]["losses"], shape, teacher)
            epoch = rows * tokens * macs * SECONDS_PER_UNIT["distill"]
            return int(step.config["trials"]) * (int(step.config["stage"]["epochs"]) * epoch + TRIAL_SECONDS), info
        case "gate":
            # One candidate: the ladder ends at the first that passes, which nearly always is the first that is tried. A search
            # measures all.
            many = len(step.config["candidates"]) if step.config.get("goal") else 1
            judged = 2 * rows if step.config.get("metrics") else 0.0  # of a pair both texts
            sent = float((step.config.get("load") or {}).get("requests", 0))
            return many * (SERVER_SECONDS + (judged + sent) * SECONDS_PER_REQUEST), info
        case name if name in GRAPHS or name in ELSEWHERE:
            return (STUDENT_SHARE if plan.find("train/student") else 1.0), info
        case "index" | "cascade" | "cut" | "pool-data" | "deduplicate" | "balance" | "data-report":
            return rows, info
        case "augment":
            return rows * int(step.config["copies"]), info
        case _:
            return 1.0, info


def start_of_torch(steps: Iterable[Step], passes: Mapping[str, PassEntry] = PASSES) -> dict[str, float]:
    """Return step id → seconds for importing torch: of `steps`, in the order they run in, the first that needs it.

    One process runs them all, so the others find it there. It is no part of a step's own estimate, nor of its rate.
    """
    first = next((step.id for step in steps if "torch" in passes[step.pass_name].needs), None)
    return {} if first is None else {first: TORCH_SECONDS}


def estimate(step: Step, plan: Plan, env: Environment, rates: Mapping[str, float] | None = None) -> Estimate:
    """Estimate a step, but for `start_of_torch`.

    `rates` (pass → seconds per unit of work) are this machine's own, where it has any.
    """
    work, info = work_of(step, plan, env)
    rate = (rates or {}).get(step.pass_name, SECONDS_PER_UNIT[step.pass_name])
    hidden, vocabulary = int(info.get("hiddenSize") or 768), int(info.get("vocabularySize") or 30_000)
    layers = int(info.get("layers") or 12)
    teacher_bytes = int(info.get("bytes") or 4 * (vocabulary * hidden + layers * 12 * hidden * hidden))
    loaded = TORCH_BYTES // 4 if "bytes" in info else TORCH_BYTES  # an ONNX model needs no torch
    rows = int(info.get("rows") or 0)
    memory = 256 * 2**20
    match step.pass_name:
        case "teacher-outputs" | "teacher-reference" | "onnx-teacher-reference":
            memory = loaded + 3 * teacher_bytes
        case "combine-outputs":
            memory = TORCH_BYTES
        case "fine-tune":
            memory = TORCH_BYTES + 5 * teacher_bytes
        case "student" | "distill" | "search-student":
            memory = TORCH_BYTES + 6 * teacher_bytes // 2
        case name if name in GRAPHS or name in ELSEWHERE:
            memory = loaded + 3 * teacher_bytes
        case "gate" | "cut":
            memory = 512 * 2**20
    return Estimate(work * rate, memory, disk(step, plan, env, rows, hidden), bool(info.get("guessed")))
