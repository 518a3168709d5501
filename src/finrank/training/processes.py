"""Training by several processes, as `accelerate launch` or torchrun starts them: shares of work, one writer, one end.

Each process has a device and a copy of the model; Trainer and accelerate exchange the gradients. All processes read the
same folders: several machines need a shared file system.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist
from accelerate.utils import broadcast_object_list, gather_object

from finrank.console import be_quiet
from finrank.errors import UserError

T = TypeVar("T")

# What the backends write where the other end of a connection is gone.
_LOST = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")


def number_of_processes() -> int:
    """The processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """True for the one process that writes files and speaks."""
    return not dist.is_initialized() or dist.get_rank() == 0


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's part of the items; `gathered` puts the results of all parts together.

    >>> share("abc")
    'abc'
    """
    return items[dist.get_rank() :: number_of_processes()] if dist.is_initialized() else items


def gathered(of_its_share: list[T]) -> list[T]:
    """One result per item, in the order of the items, in every process, from each process's results of its share."""
    if number_of_processes() == 1:
        return of_its_share
    parts: list[list[T]] = gather_object([of_its_share])
    return [parts[index % len(parts)][index // len(parts)] for index in range(sum(map(len, parts)))]


def by_main(function: Callable[[], T]) -> T:
    """The result of a function that the main process alone calls."""
    result = [function() if is_main() else None]
    if number_of_processes() > 1:
        broadcast_object_list(result)
    return result[0]  # type: ignore[return-value]


@contextmanager
def one_training() -> Iterator[None]:
    """What belongs to all processes: silence but for the main one, and an end of all when one fails.

    A process that lost another, or is interrupted, raises UserError. The launcher ends the rest.
    """
    if number_of_processes() == 1:
        yield
        return
    # One that waits for another cannot run a handler of Python's.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not is_main():
        be_quiet()
    try:
        yield
    except KeyboardInterrupt:
        raise UserError("interrupted: the same command with --resume goes on from the last checkpoint") from None
    except (UserError, OSError):
        raise  # printed by the command line
    except RuntimeError as error:
        if isinstance(error, dist.DistBackendError) or any(text in str(error).lower() for text in _LOST):
            lost = "another process of this training has ended: its message, or its machine's log, says why"
            raise UserError(lost) from error
        is_first_to_fail()  # its traceback is the message
        raise
    except Exception:
        is_first_to_fail()
        raise


def is_first_to_fail() -> bool:
    """True for the first of the launched processes to call it, which alone reports; asks the launcher's store."""
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=5))
        return int(store.add(f"finrank/failed/{attempt}", 1)) == 1
    except (dist.DistError, RuntimeError, OSError, KeyError, ValueError):
        return os.environ.get("RANK", "0") == "0"
