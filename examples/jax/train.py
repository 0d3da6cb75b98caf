"""A plain JAX training script over several processes: nothing in it knows of Lindos.

It is told who it is by JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and JAX_PROCESS_ID,
and prints `step N loss X`. If LINDOS_CHECKPOINT_DIR is set it keeps its checkpoints there and
goes on from the newest; otherwise it keeps none.
"""

import argparse
import os
import re
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64, help="examples in a step, on each process")
    parser.add_argument("--checkpoint-every", type=int, default=25)
    return parser.parse_args()


def join():
    """Find the other processes, unless this one is alone."""
    if "JAX_COORDINATOR_ADDRESS" not in os.environ:
        return
    # Without this, processes on CPUs find each other and cannot add anything up.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        coordinator_address=os.environ["JAX_COORDINATOR_ADDRESS"],
        num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
        process_id=int(os.environ["JAX_PROCESS_ID"]),
    )


def batch_of(step, process, size):
    """Points on a plane and which of two spirals they lie on: a function of step and process."""
    random = np.random.default_rng([step, process])
    which = random.integers(0, 2, size)
    turn = random.random(size)
    angle = 6.0 * turn + np.pi * which
    points = np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1)
    return points.astype(np.float32), which.astype(np.int32)


def fresh_state():
    sizes = [2, 64, 64, 2]
    keys = jax.random.split(jax.random.PRNGKey(1), len(sizes))
    layers = [
        {"w": jax.random.normal(key, (rows, columns)) / np.sqrt(rows), "b": jnp.zeros(columns)}
        for key, rows, columns in zip(keys, sizes, sizes[1:])
    ]
    return {"layers": layers, "momentum": jax.tree_util.tree_map(jnp.zeros_like, layers)}


def mean_loss(layers, points, which):
    x = points
    for layer in layers[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    logits = jax.nn.log_softmax(x @ layers[-1]["w"] + layers[-1]["b"])
    return -jnp.take_along_axis(logits, which[:, None], axis=1).mean()


@partial(jax.jit, donate_argnums=0)
def update(state, points, which):
    """One step. The batch is spread over all processes, so this mean is taken over all of them."""
    loss, slopes = jax.value_and_grad(mean_loss)(state["layers"], points, which)
    momentum = jax.tree_util.tree_map(lambda m, s: 0.9 * m + s, state["momentum"], slopes)
    layers = jax.tree_util.tree_map(lambda w, m: w - 0.05 * m, state["layers"], momentum)
    return {"layers": layers, "momentum": momentum}, loss


def save(folder, step, state):
    """Written beside its place, synced, renamed, and the folder synced: all or nothing."""
    path = os.path.join(folder, f"step-{step:08}.npz")
    unfinished = path + ".partial"
    with open(unfinished, "wb") as file:
        np.savez(file, *[np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(state)])
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def load_newest(folder, state):
    """(steps done, state): the given state if there is no checkpoint."""
    # What was saved after this step was saved with a broken loss.
    newest = int(os.environ.get("LINDOS_RESUME_STEP", sys.maxsize))
    names = sorted(n for n in os.listdir(folder) if re.fullmatch(r"step-\d+\.npz", n))
    names = [name for name in names if int(name[5:-4]) <= newest]
    if not names:
        return 0, state
    with np.load(os.path.join(folder, names[-1])) as arrays:
        leaves = [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
    structure = jax.tree_util.tree_structure(state)
    return int(names[-1][5:-4]), jax.tree_util.tree_unflatten(structure, leaves)


def main():
    args = parse_args()
    join()
    process = jax.process_index()
    mesh = Mesh(np.array(jax.devices()), ("data",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    spread = NamedSharding(mesh, PartitionSpec("data"))

    folder = os.environ.get("LINDOS_CHECKPOINT_DIR")
    start, state = 0, fresh_state()
    if folder:
        os.makedirs(folder, exist_ok=True)
        start, state = load_newest(folder, state)
    state = jax.tree_util.tree_map(
        lambda leaf: jax.make_array_from_process_local_data(everywhere, np.asarray(leaf)), state
    )

    for step in range(start + 1, args.steps + 1):
        points, which = (
            jax.make_array_from_process_local_data(spread, part)
            for part in batch_of(step, process, args.batch)
        )
        state, loss = update(state, points, which)
        if process == 0:
            print(f"step {step} loss {float(loss):.4f}", flush=True)
        if folder and process == 0 and (step % args.checkpoint_every == 0 or step == args.steps):
            save(folder, step, state)


if __name__ == "__main__":
    main()
