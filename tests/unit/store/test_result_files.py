"""Results of work that takes blocks ahead, as workers on other machines do."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest

from finrank.store.json_lines import Line
from finrank.store.result_files import Block, open_results


def upper(block: list[Line]) -> Block:
    return Block([line.content.upper() for line in block], [], {"made": len(block)})


def ahead(blocks: Iterable[list[Line]], results: int) -> Iterator[Block]:
    """So many results of `upper`, always with three further blocks taken."""
    taken: deque[list[Line]] = deque()
    for block in blocks:
        taken.append(block)
        if len(taken) > 3:
            if not results:
                raise ConnectionError
            results -= 1
            yield upper(taken.popleft())
    yield from map(upper, taken)


def test_blocks_taken_ahead_count_when_their_result_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finrank.store.result_files._LINES_PER_BLOCK", 2)
    source = tmp_path / "in.jsonl"
    source.write_text("".join(f"line {number}\n\n" for number in range(25)), encoding="utf-8")
    with open_results(source, tmp_path / "plain.jsonl", "upper", {}, overwrite=False) as files:
        files.transform(partial(map, upper), "upper")
    expected = (tmp_path / "plain.jsonl").read_bytes()
    first_run = open_results(source, tmp_path / "out.jsonl", "upper", {}, overwrite=False)
    with pytest.raises(ConnectionError), first_run as files:
        files.transform(partial(ahead, results=2), "upper")
    assert (tmp_path / "out.jsonl").read_bytes() == b"".join(b"LINE %d\n" % number for number in range(4))
    with open_results(source, tmp_path / "out.jsonl", "upper", {}, overwrite=False) as files:
        assert files.lines == 7, "the number of the fourth line, with the empty ones between"
        files.transform(partial(ahead, results=99), "upper")
        assert files.complete
        assert files.counts["made"] == 25
    assert (tmp_path / "out.jsonl").read_bytes() == expected
