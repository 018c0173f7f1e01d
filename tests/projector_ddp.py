"""One of two processes: two steps of DDP on a model with a projector; the first one writes what came out."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from projector_models import batch, tiny
from slmlp import remove_projector


def main(out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    model = DistributedDataParallel(tiny(seed=rank))  # DDP sends the weights of process 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch(8)
    mine = slice(4 * rank, 4 * rank + 4)
    grads = []
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(x[mine]), y[mine]).backward()
        grads.append({k: p.grad.clone() for k, p in model.module.named_parameters()})
        optimizer.step()
    everywhere: list[object] = [None, None]
    dist.all_gather_object(everywhere, {k: p.detach() for k, p in model.module.named_parameters()})
    assert all(torch.equal(everywhere[0][k], everywhere[1][k]) for k in everywhere[0])
    encoder = remove_projector(model)
    if rank == 0:
        torch.save({"grads": grads[0], "encoder": encoder.state_dict()}, out)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
