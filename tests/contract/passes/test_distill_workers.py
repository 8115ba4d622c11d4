"""Several workers train what one trains: two processes that meet at a port of this machine, and one of them killed."""

import dataclasses
import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.support.artifacts import context, dataset, sentences, tiny_teacher
from tests.support.lessons import go
from tests.support.training_workers import start

from stillhouse.errors import DataError, EnvironmentProblem, SpecError, WorkerLost
from stillhouse.passes.base import Settled, Workers
from stillhouse.passes.distill import meeting as place_of_meeting
from stillhouse.passes.distill.meeting import meeting, refusal
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs
from stillhouse.passes.distill.together import demand_rows_alone, shares
from stillhouse.passes.distill.train import Distill

SHARED = {"batchSize": 8, "learningRate": 0.003, "maxLength": 32, "checkpointSteps": 5, "seed": 5}
BATCHWISE = {  # terms that compare a batch's rows, learned projections, keys, a last batch of one row
    **SHARED,
    "stage": "batchwise",
    "losses": [
        {"kind": "embedding"},
        {"kind": "similarity", "weight": 0.5, "keys": 16},
        {"kind": "relational-distance", "weight": 0.3},
        {"kind": "relational-angle", "weight": 0.3},
        {"kind": "contrastive", "weight": 0.2},
        {"kind": "hidden", "weight": 0.2, "layer": 3},
    ],
    "epochs": 3,
    "progressive": "stacked",
    "earlyStopping": {"patience": 2, "minGain": 0.5},
}
TOKENWISE = {  # a teacher that reads along: each worker's reads its own rows
    **SHARED,
    "stage": "tokenwise",
    "losses": [{"kind": "hidden-tokens", "layer": 2}, {"kind": "attention-relation", "layer": 3, "weight": 0.1}],
    "epochs": 3,
}
ASTRAY = {**BATCHWISE, "stage": "astray", "progressive": None, "learningRate": 1e30, "warmup": 0.5}
LONG = {**BATCHWISE, "stage": "long", "epochs": 20, "earlyStopping": {"patience": 30, "minGain": 0.05}}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    teacher = tiny_teacher(root / "teacher")
    data = dataset(root / "data", text=sentences(41, seed=2), group=[f"g{row // 2}" for row in range(41)])
    found = {"teacher": teacher, "data": data}
    for role, one, config in (
        ("outputs", TeacherOutputs(), {"outputs": ["embedding", "hidden"], "layers": [3], "maxLength": 32}),
        ("student", InitStudent(), {"hiddenLayers": 2, "hiddenSize": 16, "attentionHeads": 2, "seed": 3}),
    ):
        found[role], _ = go(one, config, {"teacher": teacher, "data": data}, root / role)
    return {**found, "validation": data}


@pytest.fixture
def port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def ended(*workers):
    """Wait for the workers; return exit code and last words of each."""
    return [worker.ended() for worker in workers]


def alone(root, inputs, config):
    """Train with one worker; return facts and weights."""
    made = context(root)
    facts = Distill().run(Distill.config_type.model_validate(config), inputs, made)
    return facts, load_file(str(made.out / "model.safetensors"))


def same(found, expected, begun):
    """Compare weights: what differs is small beside what training has changed.

    Not number by number: where a gradient is 0 but for its last digits (keys' biases), Adam makes a whole step of them.
    """
    moved, apart = (
        sum(float((expected[name] - other[name]).pow(2).sum()) for name in expected) ** 0.5 for other in (begun, found)
    )
    assert moved > 0.3
    assert apart < 0.03 * moved, (apart, moved)


def test_two_workers_train_what_one_trains(inputs, port, tmp_path):
    begun = load_file(str(inputs["student"].path / "model.safetensors"))
    both = [start(index, port, tmp_path / "two", inputs, BATCHWISE, TOKENWISE, ASTRAY) for index in (0, 1)]
    expected = {config["stage"]: alone(tmp_path / config["stage"], inputs, config) for config in (BATCHWISE, TOKENWISE)}
    told = ended(*both)
    for code, said in told:  # of the last stage, whose objective explodes: all say the same and keep the last good step
        assert code == DataError.exit_code and "training went astray in step" in said, told
    (kept,) = (tmp_path / "two" / "astray" / "scratch").glob("checkpoint-*")
    assert all(tensor.isfinite().all() for tensor in load_file(str(kept / "tensors.safetensors")).values())
    assert f"step {int(kept.name.removeprefix('checkpoint-')) + 1} of" in told[0][1]
    for stage, (facts, weights) in expected.items():
        place = tmp_path / "two" / stage
        same(load_file(str(place / "out" / "model.safetensors")), weights, begun)
        assert not list((place / "other").rglob("*.safetensors")), "one result, which number 0 has written"
        mine, other = (json.loads((place / f"facts-{index}.json").read_text()) for index in (0, 1))
        assert mine["steps"] == other["steps"] == facts.steps
        assert mine["best_epoch"] == other["best_epoch"] == facts.best_epoch
        assert np.allclose(mine["validation"], facts.validation, atol=1e-4)
        curves = [[[point["loss"], *point["terms"].values()] for point in points] for points in (mine["curve"], facts.curve)]
        # A teacher that reads along may do so in bfloat16, of which the last digits differ by a batch's shape.
        near = 5e-3 if stage == "tokenwise" else 2e-6
        assert np.allclose(curves[0][0], curves[1][0], atol=near), "the first step has the same objective"
        assert np.allclose(*curves, rtol=0.02, atol=1e-3)
        assert mine["curve"] == other["curve"], "every worker sees the same objective"


def test_a_worker_is_killed_and_all_begin_again_from_the_last_checkpoint(inputs, port, tmp_path):
    begun = load_file(str(inputs["student"].path / "model.safetensors"))
    both = [start(index, port, tmp_path / "two", inputs, LONG) for index in (0, 1)]
    facts, weights = alone(tmp_path / "one", inputs, LONG)
    scratch = tmp_path / "two" / "long" / "scratch"
    deadline = time.monotonic() + 240
    while not list(scratch.glob("checkpoint-*")):
        assert all(worker.running for worker in both) and time.monotonic() < deadline, ended(*both)
        time.sleep(0.002)
    both[1].kill()
    (code, said), (killed, _) = ended(*both)
    assert (code, killed) == (WorkerLost.exit_code, -signal.SIGKILL), said
    assert "another worker of this training is gone" in said and "worker 0 of 2" in said
    assert list(scratch.glob("checkpoint-*")), "what was done stays"

    told = ended(*[start(index, port, tmp_path / "two", inputs, LONG) for index in (0, 1)])
    assert [code for code, _ in told] == [0, 0], told
    again = json.loads((tmp_path / "two" / "long" / "facts-0.json").read_text())
    assert (again["resumed"], again["steps"], again["best_epoch"]) == (1, facts.steps, facts.best_epoch)
    same(load_file(str(tmp_path / "two" / "long" / "out" / "model.safetensors")), weights, begun)


def test_who_does_not_come_is_named(port, tmp_path):
    progress = context(tmp_path).progress
    cpu = torch.device("cpu")
    with pytest.raises(WorkerLost, match="workers 1, 2 of 3 did not come") as said, \
            meeting(Workers(3, 0, "127.0.0.1", port, wait_s=0.3), "stage", cpu, progress):  # fmt: skip
        pass
    assert f"127.0.0.1:{port}" in said.value.problem.found and "waited" in said.value.problem.found
    assert any("waiting for workers 1, 2 of 3" in message for *_, message in progress.updates)
    with pytest.raises(WorkerLost, match="worker 0 of 2 is not reached") as said, \
            meeting(Workers(2, 1, "127.0.0.1", port, wait_s=0.3), "stage", cpu, progress):  # fmt: skip
        pass
    assert "refused" in said.value.problem.found
    with pytest.raises(Settled), \
            meeting(Workers(2, 1, "127.0.0.1", port, settled=lambda: True), "stage", cpu, progress):  # fmt: skip
        pass


@pytest.mark.parametrize(
    ("places", "told"),
    [
        (("cuda:GPU-1", "cuda:GPU-1", "cuda:GPU-2"), "workers share a GPU"),
        (("cpu", "cuda:GPU-1", "cpu"), "some workers have a GPU and some have none"),
    ],
)
def test_all_workers_hear_that_their_gpus_do_not_do(port, tmp_path, monkeypatch, places, told):
    monkeypatch.setattr(place_of_meeting, "_place", lambda device: places[device.index])

    def come(index):
        workers = Workers(len(places), index, "127.0.0.1", port)
        with pytest.raises(EnvironmentProblem, match=told) as said, \
                meeting(workers, "stage", torch.device("cpu", index), context(tmp_path / str(index)).progress):  # fmt: skip
            pass
        return said.value.problem

    with ThreadPoolExecutor(len(places)) as pool:
        heard = list(pool.map(come, range(len(places))))
    assert len(set(heard)) == 1
    assert heard[0].field == "spec.build.workers"
    assert heard[0].found in {"one and the same: 0, 1", "a GPU: 1; none: 0, 2"}


def test_a_gpu_for_each_or_none_at_all_is_what_is_wanted():
    assert refusal(["cpu", "cpu"]) is refusal(["cuda:GPU-1", "cuda:GPU-2"]) is None


def test_shares_are_of_about_as_many_tokens_and_keep_the_order_of_one_worker():
    lengths = np.array([5, 1, 9, 9, 2, 30, 1, 7], dtype=np.int64)
    rows = np.array([7, 0, 1, 2, 3, 4, 5, 6], dtype=np.int64)
    for count in range(1, len(rows) + 1):
        found = shares(lengths, rows, count)
        assert len(found) == count and all(len(share) for share in found)
        assert np.concatenate(found).tolist() == rows[np.argsort(-lengths[rows], kind="stable")].tolist()
    assert [int(lengths[share].sum()) for share in shares(lengths, rows, 2)] == [39, 25]


def test_batch_normalisation_is_refused_by_name():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    demand_rows_alone(network, 1)
    with pytest.raises(SpecError, match="batch normalisation") as said:
        demand_rows_alone(network, 2)
    assert "2 workers, and 1" in said.value.problem.found
    assert dataclasses.asdict(said.value.problem)["field"] == "spec.build.workers"
