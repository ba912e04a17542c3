"""One rank of `benchmarks.gpu`, which torchrun starts: what it sends to itself must come back.

    torchrun --standalone --nproc-per-node 1 -m benchmarks.gpu_rank cuda

`vqtok train` on one rank sends nothing, so the collectives that several would use are called here, over the backends
that `tokenizer.runtime` would choose.
"""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist


def main() -> None:
    """Join the group, send, compare, print."""
    device = torch.device(sys.argv[1])
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(0)
    dist.init_process_group(backend)
    faults = []
    for place in dict.fromkeys(("cpu", device.type)):
        for dtype in (torch.float32, torch.bfloat16, torch.int64):
            sent = torch.arange(1000, device=place).to(dtype)
            summed, most, told, gathered = sent.clone(), sent.clone(), sent.clone(), [torch.empty_like(sent)]
            dist.all_reduce(summed)
            dist.all_reduce(most, dist.ReduceOp.MAX)
            dist.broadcast(told, src=0)
            dist.all_gather(gathered, sent)
            faults += [f"{place} {dtype}" for back in (summed, most, told, *gathered) if not torch.equal(back, sent)]
    held = [{"a": 1}]
    dist.broadcast_object_list(held, src=0)
    faults += [] if held == [{"a": 1}] else ["an object"]
    dist.destroy_process_group()
    print(f"{backend}: {', '.join(faults) or 'all as sent'}")


if __name__ == "__main__":
    main()
