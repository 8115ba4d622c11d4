"""Loading and saving torch-model artifacts. Safetensors only: nothing here can run code that an artifact carries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stillhouse.errors import SourceError
from stillhouse.inference.signature import Signature
from stillhouse.inference.text import TOKENIZER_FILE
from stillhouse.passes.models import factory
from stillhouse.passes.models.architecture import WEIGHTS_FILE, Architecture
from stillhouse.passes.models.graph import graph_network, is_graph
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.pruned import resize
from stillhouse.passes.models.residual import Attention, ResidualEncoder
from stillhouse.passes.models.small.build import build_small

__all__ = ["CONFIG_FILE", "build", "load", "save"]

CONFIG_FILE = "config.json"
# Heads of pre-training that an encoder's file may carry and that no embedding needs.
_UNUSED = ("pooler.", "cls.", "lm_head.", "embeddings.position_ids")


def load(path: Path, attention: Attention = "sdpa", role: str = "model") -> Network:
    """Load a torch-model artifact, in evaluation mode, float32, on the CPU; a teacher may be an ONNX model of arrays.

    `attention` chooses the implementation: `sdpa` is the fast one; `eager` writes the products out, which
    some exporters and graph optimisers need to see. `role` is the pass's input that this is: an error about a factory
    names the field by it (see `planning/fields.py`).

    Raises:
        SourceError: a file is missing or damaged, or the weights are not those of the architecture.
    """
    if role == "teacher" and is_graph(path):
        return graph_network(path)
    architecture, signature = Architecture.read(path), Signature.read(path)
    body = build(path, architecture, signature, attention, f"{role}.factory")
    _narrow(body, architecture, path)
    tensors = _read_tensors(path / WEIGHTS_FILE)
    projection = None
    if architecture.projection is not None:
        head = architecture.head
        weight = tensors.get(f"{head}.weight")
        if weight is None or weight.shape[0] != architecture.projection:
            raise _unfit(path, f"{head}.weight is missing or has another size")
        projection = nn.Linear(weight.shape[1], weight.shape[0], bias=f"{head}.bias" in tensors)
        projection.load_state_dict({name: tensors.pop(f"{head}.{name}") for name in dict(projection.named_parameters())})
    _fill(body, tensors, path, exact=not architecture.kind.startswith("hf-"))
    network = Network(body, architecture, signature, projection)
    network.float()
    network.eval()
    return network


def build(
    path: Path, architecture: Architecture, signature: Signature, attention: Attention = "sdpa", field: str = "model.factory"
) -> nn.Module:
    """Build the network without its weights (they are whatever its initialisation gives).

    `field` is where a factory stands in the resource, for errors.

    Raises:
        SourceError: the configuration is not readable or not known, or the factory fails.
    """
    if architecture.kind == "factory":
        assert architecture.factory is not None
        made = factory.call(architecture.factory, field=field)
        if not isinstance(made, nn.Module):
            raise SourceError(
                "the factory did not return a torch.nn.Module",
                field=f"{field}.target",
                found=f"{architecture.factory.target} returned {type(made).__name__}",
                allowed="a function that returns a torch.nn.Module",
            )
        return made
    if architecture.residual is not None:
        return ResidualEncoder(architecture.residual, attention)
    if architecture.small is not None:
        return build_small(architecture.small)
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForImageClassification,
        AutoModelForSequenceClassification,
    )

    try:
        # A folder's path and local_files_only: nothing is looked up by name. trust_remote_code stays False.
        config = AutoConfig.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
        kinds: dict[str, Any] = {
            "sentence-embedding": AutoModel,
            "text-classification": AutoModelForSequenceClassification,
            "image-classification": AutoModelForImageClassification,
        }
        auto = AutoModel if architecture.pooling is not None else kinds[signature.task]
        # None: the fused kernel where the family has it, else products written out (MPNet, DeBERTa).
        body = auto.from_config(config, attn_implementation=None if attention == "sdpa" else attention, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise SourceError("the model's configuration cannot be used", field=str(path / CONFIG_FILE), found=str(error)) from error
    if architecture.pooling is not None and getattr(body, "pooler", None) is not None:
        body.pooler = None  # BERT's next-sentence head: untouched by any embedding, and dead weight in the artifact
    return body


def save(network: Network, folder: Path, *, tokenizer: Path | None = None) -> None:
    """Write a torch-model artifact into `folder`: weights, configuration, architecture, signature, tokenizer.

    The tensors are written in the names of Hugging Face's encoder, of our own networks or of the factory's, a
    projection as `projection.*`, the head of a pooled classifier as `classifier.*`. `tokenizer` is the tokenizer.json to
    copy. The same weights give the same bytes.
    """
    tensors = _tensors_of(network)
    save_file(tensors, str(folder / WEIGHTS_FILE), metadata={"format": "pt"})
    if network.config is not None:
        data = network.config.to_dict()
        for name in ("transformers_version", "_name_or_path"):  # neither the same everywhere, nor anybody's business
            data.pop(name, None)
        data["architectures"] = [type(network.body).__name__]
        (folder / CONFIG_FILE).write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    network.architecture.write(folder)
    network.signature.write(folder)
    if tokenizer is not None:
        shutil.copyfile(tokenizer, folder / TOKENIZER_FILE)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict: it has no __iter__)
    except (OSError, SafetensorError) as error:
        raise SourceError(
            "the weights are not readable", field=str(path), found=str(error), allowed="a whole safetensors file"
        ) from error


def _tensors_of(network: Network) -> dict[str, Tensor]:
    state: dict[str, Tensor] = dict(network.body.state_dict())
    if network.projection is not None:
        state |= {f"{network.architecture.head}.{name}": tensor for name, tensor in network.projection.state_dict().items()}
    seen: set[int] = set()
    out: dict[str, Tensor] = {}
    for name in sorted(state):
        tensor = state[name].detach().to("cpu").contiguous()
        if tensor.data_ptr() in seen and tensor.numel():
            tensor = tensor.clone()  # tied weights: safetensors refuses shared memory
        seen.add(tensor.data_ptr())
        out[name] = tensor
    return out


def _narrow(body: nn.Module, architecture: Architecture, path: Path) -> None:
    try:
        resize(body, architecture.pruned or {})
    except (AttributeError, TypeError) as error:
        raise _unfit(path, f"pruned layers: {error}") from error


def _fill(body: nn.Module, tensors: dict[str, Tensor], path: Path, *, exact: bool) -> None:
    """Put the tensors into the network; older names of Hugging Face's formats are understood."""
    wanted = body.state_dict()
    prefix = f"{getattr(body, 'base_model_prefix', '')}."
    found: dict[str, Tensor] = {}
    spare: list[str] = []
    for name, tensor in tensors.items():
        # BERT's first files wrote gamma and beta; a model with a head writes its encoder under a prefix.
        modern = (
            name if exact else name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        )
        names = (modern,) if exact else (modern, modern.removeprefix(prefix), prefix + modern)
        match = next((candidate for candidate in names if candidate in wanted), None)
        if match is None:
            spare.append(modern.removeprefix(prefix))
        else:
            found[match] = tensor
    missing = sorted(set(wanted) - set(found))
    # Buffers that are computed when the network is built (position_ids) need not be in the file.
    parameters = dict(body.named_parameters(remove_duplicate=False))
    missing = [name for name in missing if name in parameters or exact]
    if missing:
        raise _unfit(path, f"{len(missing)} tensors are missing, the first one is {missing[0]}")
    odd = [name for name in spare if exact or not name.startswith(_UNUSED)]
    if odd:
        raise _unfit(path, f"{len(odd)} tensors have no place in the network, the first one is {odd[0]}")
    wrong = [name for name, tensor in found.items() if tensor.shape != wanted[name].shape]
    if wrong:
        name = wrong[0]
        raise _unfit(path, f"{name} is {list(found[name].shape)}, the network has {list(wanted[name].shape)}")
    with torch.no_grad():
        body.load_state_dict(found, strict=False)


def _unfit(path: Path, found: str) -> SourceError:
    return SourceError(
        "the weights are not those of the network",
        field=str(path / WEIGHTS_FILE),
        found=found,
        allowed="every tensor of the network, in its shape",
        fix="give the weights and the configuration of one and the same model",
    )
