"""What a full disk, a missing permission and libraries' own errors become."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from finrank.errors import UserError
from finrank.store.writing import writing


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_names_the_file_and_what_to_do(number: int) -> None:
    with pytest.raises(UserError, match=r"^out/a cannot be written: .*: make room there"), writing(Path("out/a")):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    "text",
    ["Error while serializing: I/O error: No space left on device (os error 28)",
     "[enforce fail at inline_container.cc:672] . unexpected pos 4224 vs 4114"],
)  # fmt: skip
def test_what_libraries_say_of_a_full_disk_is_known(text: str) -> None:
    with pytest.raises(UserError, match="a cannot be written: No space left on device: make room"), writing(Path("a")):
        raise RuntimeError(text)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), writing(Path("a")):
        raise RuntimeError("shapes differ")
    with pytest.raises(UserError, match="mine"), writing(Path("a")):
        raise UserError("mine")
