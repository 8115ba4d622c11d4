"""What `python` steps of the tests call."""

from os import system

__all__ = ["doubled", "system", "wrong"]


def doubled(tensors, times=2):
    return {"OUT": tensors["IN"] * times}


def wrong(tensors):
    return {"OUT": tensors["IN"].astype("float64")}
