"""Waiting for a rank: `docs/launch-contract.md`, "Standing by"."""

import os
import socket
from typing import Dict, Optional

from . import _progress

_PATH = "LINDOS_STANDBY"
_BESIDE = "LINDOS_STANDBY_BESIDE"


def stand_by() -> bool:
    """Call it where all is done that needs no rank: imports, compiled kernels, the data's index.

    Lindos starts some processes before they have a rank, to have them ready (`warm_spares` and
    `warm_restarts` in the job file). Such a process waits here until it has one, and `os.environ`
    then has everything of the launch contract; it ends here if it is not wanted any more. In a
    process that has its rank already, and outside Lindos, this returns at once.

    Returns whether it waited. Before it, RANK and its kin are not set in a process that waits, and
    where `LINDOS_STANDBY_BESIDE` is set, other ranks have the GPUs.
    """
    path = os.environ.get(_PATH)
    if path:
        told = _wait(path)
        if told is None:
            raise SystemExit(0)
        for name in (_PATH, _BESIDE):
            os.environ.pop(name, None)
        os.environ.update(told)
    _progress.offer()
    return bool(path)


def _wait(path: str) -> Optional[Dict[str, str]]:
    """The variables of this process's rank; None when there will be none."""
    received = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(path)
            while not (received == b"\n" or received.endswith(b"\n\n")):
                more = connection.recv(65536)
                if not more:
                    return None
                received += more
    except OSError:
        return None
    lines = received.decode(errors="surrogateescape").split("\n")
    pairs = (line.partition("=") for line in lines if line)
    return {name: value for name, _, value in pairs}
