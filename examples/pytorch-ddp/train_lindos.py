"""`train.py` with the lines that tell Lindos more: look for `lindos.`.

What they buy over a pattern on the output: every rank reports, so that a hang is pinned on the
rank that is behind; checkpoints are known, with what they cost; saving all or nothing and finding
the newest are no longer this script's business. Outside Lindos they do nothing.
"""

import argparse
import os
import sys
import time

import lindos
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64, help="examples in a step, on each rank")
    parser.add_argument("--checkpoint-every", type=int, default=25)
    return parser.parse_args()


def batch_of(step, rank, size):
    """Points on a plane and which of two spirals they lie on: a function of step and rank."""
    generator = torch.Generator().manual_seed(1_000_003 * step + rank)
    which = torch.randint(0, 2, (size,), generator=generator)
    turn = torch.rand(size, generator=generator)
    angle = 6.0 * turn + torch.pi * which
    points = torch.stack([turn * torch.cos(angle), turn * torch.sin(angle)], dim=1)
    return points, which


def main():
    args = parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    # All above needs no rank. On a warm spare it is done, and here the process waits for its rank.
    lindos.stand_by()
    dist.init_process_group("gloo")
    rank = dist.get_rank()

    net = torch.nn.Sequential(
        torch.nn.Linear(2, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64), torch.nn.Tanh(),
        torch.nn.Linear(64, 2),
    )
    model = DistributedDataParallel(net)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)

    folder = lindos.checkpoint_dir()
    start, path = lindos.resume("step-*.pt")
    if path:
        state = torch.load(path)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])

    for step in range(start + 1, args.steps + 1):
        points, which = batch_of(step, rank, args.batch)
        loss = torch.nn.functional.cross_entropy(model(points), which)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        dist.all_reduce(loss.data)
        mean = loss.item() / dist.get_world_size()
        lindos.step(step, loss=mean if rank == 0 else None, total_steps=args.steps)
        if rank == 0:
            print(f"step {step} loss {mean:.4f}", flush=True)
        if folder and rank == 0 and (step % args.checkpoint_every == 0 or step == args.steps):
            began = time.monotonic()
            path = os.path.join(folder, f"step-{step:08}.pt")
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            with lindos.atomic_save(path) as partial:
                torch.save(state, partial)
            lindos.checkpoint(step, path, seconds=time.monotonic() - began)

    # Why so: see train.py.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
