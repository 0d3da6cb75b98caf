"""Checkpoints that are whole or not there."""

import contextlib
import fnmatch
import os
import re
from typing import Any, Iterator, Optional, Tuple

_DIGITS = re.compile(r"\d+")
_PARTIAL = ".partial"


def checkpoint_dir(default: Optional[str] = None) -> Optional[str]:
    """The folder that Lindos keeps for this job's checkpoints over all attempts, or `default`.

    It is made if it is not there yet, and is the same on every rank.
    """
    folder = os.environ.get("LINDOS_CHECKPOINT_DIR") or default
    if folder:
        with contextlib.suppress(OSError):
            os.makedirs(folder, exist_ok=True)
    return folder or None


def latest_checkpoint(pattern: str = "*", folder: Optional[str] = None) -> Optional[str]:
    """The path of the newest checkpoint in `folder` (default: `checkpoint_dir()`), or None.

    Newest is by the last number in the name, so `step-90.pt` comes before `step-100.pt`; names
    without a number are not checkpoints. `pattern` is that of `fnmatch`, over names. A folder
    counts like a file. What `atomic_save` has not finished is never returned.

    In the folder that Lindos keeps, one that was saved after the step that Lindos says to go on from
    (`LINDOS_RESUME_STEP`) is passed over: it was saved with a broken loss.
    """
    found = _numbered(pattern, folder)
    return found[1] if found else None


def resume(pattern: str = "*", folder: Optional[str] = None) -> Tuple[int, Optional[str]]:
    """`(step, path)` of the newest checkpoint, by `latest_checkpoint`; `(0, None)` if none.

        step, path = lindos.resume("*.pt")
        if path:
            model.load_state_dict(torch.load(path))
    """
    return _numbered(pattern, folder) or (0, None)


def _numbered(pattern: str, folder: Optional[str]) -> Optional[Tuple[int, str]]:
    lent = os.environ.get("LINDOS_CHECKPOINT_DIR")
    newest = _resume_step() if folder in (None, "", lent) else None
    folder = folder or lent
    try:
        names = os.listdir(folder) if folder else []
    except OSError:
        return None
    found = []
    for name in names:
        numbers = _DIGITS.findall(os.path.splitext(name)[0])
        unfinished = name.startswith(".") or name.endswith(_PARTIAL)
        if numbers and not unfinished and fnmatch.fnmatch(name, pattern):
            found.append((int(numbers[-1]), os.path.join(folder, name)))
    if newest is not None:
        found = [(step, path) for step, path in found if step <= newest]
    return max(found) if found else None


def _resume_step() -> Optional[int]:
    try:
        return int(os.environ["LINDOS_RESUME_STEP"])
    except (KeyError, ValueError):
        return None


@contextlib.contextmanager
def atomic_save(path: Any) -> Iterator[str]:
    """Write a file so that a crash at any moment leaves the old one or the new one.

        with lindos.atomic_save(path) as partial:
            torch.save(state, partial)

    Gives the name of a file beside `path` to write to. When the block ends, the file is synced,
    renamed to `path`, and its folder synced. If the block raises, it is removed and `path`
    stays as it was. What a killed process leaves is overwritten when `path` is saved again.
    One process writes a `path` at a time. Errors of the disk are raised.
    """
    path = os.path.abspath(os.fspath(path))
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    partial = os.path.join(folder, "." + name + _PARTIAL)
    try:
        # Before the block, so that a folder that cannot be written shows before the work.
        with open(partial, "wb"):
            pass
        yield partial
        _sync(partial)
        os.replace(partial, path)
        _sync(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
