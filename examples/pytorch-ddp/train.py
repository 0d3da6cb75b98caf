"""A plain PyTorch training script: nothing in it knows of Lindos.

It reads what torchrun sets (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), averages gradients over
gloo, and prints `step N loss X`. If LINDOS_CHECKPOINT_DIR is set it keeps its checkpoints there
and goes on from the newest; otherwise it keeps none.
"""

import argparse
import os
import re
import sys

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


def save(folder, step, model, optimizer):
    """Written beside its place, synced, renamed, and the folder synced: all or nothing."""
    path = os.path.join(folder, f"step-{step:08}.pt")
    partial = path + ".partial"
    with open(partial, "wb") as file:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def load_newest(folder, model, optimizer):
    """The step to go on from: 0 if there is no checkpoint."""
    # What was saved after this step was saved with a broken loss.
    newest = int(os.environ.get("LINDOS_RESUME_STEP", sys.maxsize))
    names = sorted(n for n in os.listdir(folder) if re.fullmatch(r"step-\d+\.pt", n))
    names = [name for name in names if int(name[5:-3]) <= newest]
    if not names:
        return 0
    state = torch.load(os.path.join(folder, names[-1]))
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def main():
    args = parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()

    net = torch.nn.Sequential(
        torch.nn.Linear(2, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64), torch.nn.Tanh(),
        torch.nn.Linear(64, 2),
    )
    model = DistributedDataParallel(net)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)

    folder = os.environ.get("LINDOS_CHECKPOINT_DIR")
    start = 0
    if folder:
        os.makedirs(folder, exist_ok=True)
        start = load_newest(folder, model, optimizer)

    for step in range(start + 1, args.steps + 1):
        points, which = batch_of(step, rank, args.batch)
        loss = torch.nn.functional.cross_entropy(model(points), which)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        dist.all_reduce(loss.data)
        if rank == 0:
            print(f"step {step} loss {loss.item() / dist.get_world_size():.4f}", flush=True)
        if folder and rank == 0 and (step % args.checkpoint_every == 0 or step == args.steps):
            save(folder, step, model, optimizer)

    # To destroy the group first is what one does with NCCL. With gloo, a rank whose peer has left already
    # now and then waits there for ever, or aborts as the interpreter winds up: so it ends here, at once.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
