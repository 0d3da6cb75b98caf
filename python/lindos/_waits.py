"""How long this rank has waited for others: by the script's word, or by PyTorch's flight recorder."""

import contextlib
import os
import pickle
import sys
import threading
import time
from typing import Any, Callable, Iterator, Optional

# Between two looks at the flight recorder: this, and so many times as long as the last one took.
_INTERVAL_S = 10.0
_REST = 300

_lock = threading.Lock()
_said_s: Optional[float] = None
_recorder: Optional["_Recorder"] = None


def waited(seconds: float) -> None:
    """This rank has waited so long for others, and no more than once for the same."""
    global _said_s
    with contextlib.suppress(TypeError, ValueError):
        seconds = float(seconds)
        if 0 <= seconds < float("inf"):
            with _lock:
                _said_s = (_said_s or 0.0) + seconds


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Around what waits for others until they are there: `waited` of the time that it takes.

    A collective on a GPU only begins when it is called: with NCCL, have PyTorch measure instead."""
    began = time.monotonic()
    try:
        yield
    finally:
        waited(time.monotonic() - began)


def total() -> Optional[float]:
    """The sum since the process began, in seconds, or None where nothing tells of this moment."""
    global _recorder
    if _said_s is not None:
        return _said_s
    if _recorder is None or _recorder.pid != os.getpid():
        dump = _flight_recorder()
        if dump is None:
            return None
        _recorder = _Recorder(dump)
    return _recorder.total()


def _flight_recorder() -> Optional[Callable[[], Any]]:
    """Of NCCL, where PyTorch measures how long its collectives take: it does so when asked to."""
    if os.environ.get("TORCH_NCCL_ENABLE_TIMING", "").lower() not in ("1", "y", "yes", "true"):
        return None
    torch = sys.modules.get("torch")
    try:
        if not torch.distributed.is_initialized():
            return None
        dump = torch._C._distributed_c10d._dump_nccl_trace
    except AttributeError:
        return None

    def read() -> Any:
        text = dump(includeCollectives=True, includeStackTraces=False, onlyActive=False)
        return pickle.loads(text).get("entries", [])

    return read


class _Recorder:
    """Sums what collectives have taken. Who comes last to one waits least in it, on a GPU as well,
    where a process sees nothing of that.

    It is read between two steps, and not by a thread beside them: PyTorch asks CUDA how far the
    collectives are, which must not happen while a graph is captured."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self.pid = os.getpid()
        self._read = read
        self._due = float("-inf")
        self._next_id = 0
        self._open: set = set()
        self._sum_s = 0.0
        self._knows = False

    def total(self) -> Optional[float]:
        began = time.monotonic()
        if began < self._due:
            return None
        try:
            is_known = self._add(self._read())
        except Exception:  # It is no public interface: whatever it does is no reason to stop.
            self._due = float("inf")
            return None
        took = time.monotonic() - began
        self._due = began + max(_INTERVAL_S, _REST * took)
        return self._sum_s if is_known and self._knows else None

    def _add(self, entries: Any) -> bool:
        """Whether the sum is that of all that is over."""
        if entries and entries[-1]["record_id"] + 1 < self._next_id:
            self._next_id = 0  # It was reset, and numbers anew.
            self._open.clear()
        new = [entry for entry in entries if entry["record_id"] >= self._next_id]
        late = [entry for entry in entries if entry["record_id"] in self._open]
        # Parts of a group have no time of their own and stay open: the group's own entry has it.
        self._open = {e["record_id"] for e in new + late if not self._is_over(e)}
        seconds = sum(self._seconds(entry) for entry in new)
        self._sum_s += sum(self._seconds(entry) for entry in late)
        if new:
            # The recorder keeps the last so many. Where it has dropped some, they took as long as the others.
            dropped = new[0]["record_id"] - self._next_id
            self._next_id = new[-1]["record_id"] + 1
            if dropped > len(new):
                # What it keeps is too small a part: a sum of nothing says that it begins anew.
                self._sum_s = 0.0
                return True
            self._sum_s += seconds * (len(new) + dropped) / len(new)
        is_stuck = bool(new) and seconds == 0 and len(self._open) >= len(new)
        self._knows |= seconds > 0
        return not is_stuck

    @staticmethod
    def _seconds(entry: Any) -> float:
        return (entry.get("duration_ms") or 0.0) / 1000

    @staticmethod
    def _is_over(entry: Any) -> bool:
        return entry.get("duration_ms") is not None or bool(entry.get("retired"))
