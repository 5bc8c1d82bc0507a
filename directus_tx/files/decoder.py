"""The program of a process that decodes pictures for a server, which gives it one order after the other (see `decoding`).

Orders and answers are lines of JSON on standard input and output. The bytes of a picture are in the file with the descriptor SOURCE; the
thumbnail goes to the file with the descriptor RESULT. The process ends when the server does. It may use only so much memory, and for each
order so much processor time, because the decoders are written in C and a hostile picture may make them do anything.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Any

from PIL import AvifImagePlugin

from directus_tx.files.encodings import ENCODED
from directus_tx.files.metadata import read_metadata
from directus_tx.files.resizing import NotResizable, resized
from directus_tx.schema.thumbnail_sizes import Size

SOURCE, RESULT = 3, 4
_PR_SET_PDEATHSIG = 1


def run() -> None:
    """Answers orders until standard input ends. The arguments of the process are the id of the server's process and the maximum memory in
    bytes."""
    parent, memory = map(int, sys.argv[1:])
    _end_with(parent)
    _limit(memory)
    _answer({"ready": True})
    for line in sys.stdin.buffer:
        _answer(_done(json.loads(line)))


def _end_with(parent: int) -> None:
    """Makes the system kill this process when the server ends, even if it is killed, where the system can do that. Elsewhere the process
    ends when it reads its next order, or its processor time is over."""
    # They are for the server, which still answers requests after them.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the server has ended")


def _limit(memory: int) -> None:
    # On Linux what is reserved but not used does not count for RLIMIT_DATA; other systems only know RLIMIT_AS.
    limited = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    resource.setrlimit(limited, (memory, memory))
    # A dump would hold what users have uploaded.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Each thread of the decoder of AVIF has a stack, which counts.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    # Requests for anything else go first.
    os.nice(5)


def _answer(answer: Mapping[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def _done(order: Mapping[str, Any]) -> Mapping[str, Any]:
    """Carries out an order. If it takes more processor time than the order allows, the system ends this process with SIGPROF."""
    signal.setitimer(signal.ITIMER_PROF, order["seconds"])
    try:
        with open(SOURCE, "rb", closefd=False) as source:
            source.seek(0)
            if order["work"] == "details":
                return {"details": read_metadata(source, order["pixels"])}
            size = Size(order["width"], order["height"], order["fit"], order["quality"])
            made = resized(source, size, ENCODED[order["encoding"]], order["pixels"], tuple(order["focus"]))
        with open(RESULT, "wb", closefd=False) as result:
            result.seek(0)
            result.write(made)
        return {"size": len(made)}
    except NotResizable as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"memory": True}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
