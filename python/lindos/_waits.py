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
    """Around what waits for others, such as a collective: `waited` of the time that it takes."""
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
        self._sum_s = 0.0
        self._knows = False

    def total(self) -> Optional[float]:
        began = time.monotonic()
        if began < self._due:
            return None
        try:
            self._add(self._read())
        except Exception:  # It is no public interface: whatever it does is no reason to stop.
            self._due = float("inf")
            return None
        took = time.monotonic() - began
        self._due = began + max(_INTERVAL_S, _REST * took)
        return self._sum_s if self._knows else None

    def _add(self, entries: Any) -> None:
        new = [entry for entry in entries if entry["record_id"] >= self._next_id]
        if not new:
            return
        # The recorder keeps the last thousands: those that it has dropped took as long as the others.
        dropped = new[0]["record_id"] - self._next_id
        seconds, count = 0.0, 0
        for entry in new:
            took = entry.get("duration_ms")
            if took is None and not entry.get("retired"):
                break  # It is under way.
            self._next_id = entry["record_id"] + 1
            if took is not None:
                seconds += took / 1000
                count += 1
        if count:
            self._sum_s += seconds * (count + dropped) / count
            self._knows = True
