"""Messages to the agent: one JSON object a datagram, over the Unix socket LINDOS_SOCKET."""

import json
import math
import os
import socket
import threading
from typing import Any, Optional

from . import _stacks, _waits

# Below the kernel's bound on a datagram anywhere; a message is some 100 bytes.
_MESSAGE_BYTES_MAX = 65_000

_lock = threading.Lock()
_socket: Optional[socket.socket] = None
_socket_pid: Optional[int] = None


def job() -> Optional[str]:
    """The id of the job that this process belongs to, or None outside Lindos."""
    return os.environ.get("LINDOS_JOB") or None


def epoch() -> int:
    """Which attempt at the job this is, counted from 1; 1 outside Lindos as well."""
    try:
        return int(os.environ.get("LINDOS_EPOCH", "1"))
    except ValueError:
        return 1


def step(
    n: int,
    loss: Any = None,
    tokens: Optional[int] = None,
    total_steps: Optional[int] = None,
) -> None:
    """Step `n` is done.

    Call it on every rank after every step. `loss` is a number or anything with `.item()`, such
    as a tensor of one element (which on a GPU waits for that element: leave it out, or give it
    every so often). `tokens` counts the whole job's from its first step on.
    """
    if not os.environ.get("LINDOS_SOCKET"):
        return
    message = {"step": _whole(n)}
    _add(message, "loss", _real(loss))
    _add(message, "tokens", _whole(tokens))
    _add(message, "total_steps", _whole(total_steps))
    _add(message, "waited", _waits.total())
    if message["step"] is not None:
        _send(message)
        _stacks.listen(_send)


def checkpoint(step: int, path: Any, seconds: Optional[float] = None) -> None:
    """A checkpoint of `step` stands at `path`, to stay.

    Call it on the rank that wrote it, once it is durable (`atomic_save` has returned).
    `seconds` is how long training stood still for it.
    """
    if not os.environ.get("LINDOS_SOCKET"):
        return
    try:
        what = {"step": _whole(step), "path": os.path.abspath(os.fspath(path))}
    except TypeError:
        return
    _add(what, "seconds", _real(seconds))
    if what["step"] is not None:
        _send({"checkpoint": what})


def offer() -> None:
    """This program can wait for its rank."""
    if os.environ.get("LINDOS_SOCKET"):
        _send({"stand_by": True})


def _add(message: dict, name: str, value: Any) -> None:
    if value is not None:
        message[name] = value


def _whole(value: Any) -> Optional[int]:
    try:
        return None if value is None else int(value)
    except Exception:  # Whatever a foreign number type raises is no reason to stop training.
        return None


def _real(value: Any) -> Optional[float]:
    try:
        if value is None:
            return None
        value = float(value.item() if hasattr(value, "item") else value)
    except Exception:  # As above.
        return None
    # JSON has no NaN and no infinity.
    return value if math.isfinite(value) else None


def _send(message: dict) -> None:
    """Without waiting: a full or missing socket loses the message, and that is all."""
    global _socket, _socket_pid
    try:
        data = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
        if len(data) > _MESSAGE_BYTES_MAX:
            return
        with _lock:
            # A forked child must not share its parent's socket.
            if _socket is not None and _socket_pid != os.getpid():
                _socket.close()
                _socket = None
            if _socket is None:
                _socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                _socket.setblocking(False)
                _socket_pid = os.getpid()
            _socket.sendto(data, os.environ["LINDOS_SOCKET"])
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        pass
