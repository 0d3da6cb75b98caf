"""Progress and checkpoints for training scripts that Lindos runs.

    import lindos

    lindos.step(step, loss=loss)          # after every step, on every rank
    lindos.checkpoint(step, path)         # when a checkpoint is on the disk, on the rank that wrote it
    path = lindos.latest_checkpoint()     # where to go on from, or None
    lindos.stand_by()                     # after the imports: a warm spare waits here for its rank
    with lindos.waiting(): ...            # around what waits for other ranks, where nothing tells that

Outside Lindos all of these do nothing, quietly. Inside, they never wait and never raise because
of Lindos: a message that cannot be sent at once is dropped. `atomic_save` is about the disk and
raises what the disk raises.
"""

from ._checkpoints import atomic_save, checkpoint_dir, latest_checkpoint, resume
from ._progress import checkpoint, epoch, job, step
from ._standby import stand_by
from ._waits import waited, waiting

__all__ = [
    "atomic_save",
    "checkpoint",
    "checkpoint_dir",
    "epoch",
    "job",
    "latest_checkpoint",
    "resume",
    "stand_by",
    "step",
    "waited",
    "waiting",
]
__version__ = "0.1.0"
