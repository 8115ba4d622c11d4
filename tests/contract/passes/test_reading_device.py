"""Where a network that is only read does its work."""

import pytest
import torch
from torch import nn

from stillhouse.passes.models.device import device_of, reading_device, there


@pytest.fixture(autouse=True)
def accelerator(monkeypatch):
    """A machine whose torch sees a GPU, as far as is asked."""
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


def test_a_gpu_is_taken_where_there_is_one(monkeypatch):
    assert reading_device() == torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert reading_device() == torch.device("cpu")


@pytest.mark.parametrize("word", ["1", "true", "True", "yes", "on"])
def test_it_is_left_alone_where_accelerate_is_told_so(monkeypatch, word):
    monkeypatch.setenv("ACCELERATE_USE_CPU", word)
    assert reading_device() == torch.device("cpu")


def test_a_network_comes_back_to_the_cpu_whatever_happens(monkeypatch):
    class Seen(nn.Linear):
        went = ()

        def to(self, place):
            self.went = (*self.went, place)
            return self

    network = Seen(2, 2)
    with pytest.raises(RuntimeError, match="in the middle"), there(network):
        assert network.went == (torch.device("cuda", 0),)
        raise RuntimeError("in the middle")
    assert network.went[1:] == (torch.device("cpu"),)


def test_a_network_without_weights_is_on_the_cpu():
    assert device_of(nn.Identity()) == torch.device("cpu")
