"""Writing that fails: a full disk, or a place without permission, as one error that names the file and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finrank.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
# What libraries in Rust and C++ say of a full disk; their errors hold no number.
_FULL_IN_WORDS = ("No space left on device", "Disk quota exceeded", "File too large", "PytorchStreamWriter failed")
_CUT_SHORT = "unexpected pos"  # PyTorch's, of bytes that did not reach the file


def remedy(number: int | None) -> str:
    """What to do about an error of the system when writing, to be appended to its text."""
    if number in FULL:
        return ": make room there and repeat the command (a training with --resume); what was finished is kept"
    return ": choose another place, or make this one writable" if number in _READ_ONLY else ""


def cannot_write(path: Path, error: OSError) -> UserError:
    """The error for a file or folder that the system does not let us write."""
    return UserError(f"{path} cannot be written: {error.strerror or error}{remedy(error.errno)}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Nothing but `path` is written inside: whatever a full disk or a missing permission raises is a UserError."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error
    except Exception as error:
        text = str(error)
        if _CUT_SHORT in text or any(part in text for part in _FULL_IN_WORDS):
            raise cannot_write(path, OSError(errno.ENOSPC, "No space left on device")) from error
        raise
