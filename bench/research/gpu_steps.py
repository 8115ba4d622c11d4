"""What `mixedPrecision` saves on a GPU: milliseconds and memory of a training step of BERTs of several sizes.

PYTHONPATH=operator python bench/research/gpu_steps.py
"""

from __future__ import annotations

import json
import time

import torch
from transformers import BertConfig, BertModel

from stillhouse.passes.models.precision import mixed

SIZES = ((6, 384, 8192), (12, 768, 8192), (12, 768, 32768), (24, 1024, 8192))
"""Layers, width, tokens of a step (in rows of 64). The training loop gives the network at most 8,192 at once."""
WARM_UP, STEPS = 3, 10


def main() -> None:
    """Print a line of JSON for each size and arithmetic."""
    gpu = torch.device("cuda")
    for layers, width, tokens in SIZES:
        shape = BertConfig(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64, intermediate_size=4 * width
        )
        network = BertModel(shape, add_pooling_layer=False).to(gpu).train()
        optimizer = torch.optim.AdamW(network.parameters(), fused=True)
        ids = torch.randint(1000, (tokens // 64, 64), device=gpu)
        mask = torch.ones_like(ids)
        for bfloat16 in (False, True):
            torch.cuda.reset_peak_memory_stats()
            for number in range(WARM_UP + STEPS):
                if number == WARM_UP:
                    torch.cuda.synchronize()
                    began = time.perf_counter()
                with mixed(gpu, bfloat16=bfloat16):
                    states = network(input_ids=ids, attention_mask=mask).last_hidden_state
                states.float().mean(1).pow(2).sum().backward()
                optimizer.step()
                optimizer.zero_grad()
            torch.cuda.synchronize()
            took = 1000 * (time.perf_counter() - began) / STEPS
            found = {"layers": layers, "width": width, "tokens": tokens, "bfloat16": bfloat16, "ms": round(took, 1)}
            print(json.dumps({**found, "mib": torch.cuda.max_memory_allocated() >> 20}), flush=True)


if __name__ == "__main__":
    main()
