"""`finrank rank --ray_workers`: the lines of one process, whatever the number of workers, and when one is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from finrank.commands import rank as rank_command
from finrank.commands.rank import rank
from finrank.errors import UserError
from finrank.parallel import ray_map
from finrank.store.json_lines import Line
from finrank.store.result_files import Block
from tests.helpers.pools import make_pool
from tests.helpers.saved_ranker import save_tiny_ranker


class DyingRanker(rank_command._BlockRanker):
    """Kills its process the first time that a worker comes to the fifth block."""

    marker = Path()

    def __init__(self, *arguments: str) -> None:
        super().__init__(*arguments)
        self._marker = self.marker  # of the class, which other processes do not see

    def __call__(self, block: list[Line]) -> Block:
        if block[0].number == 33 and not self._marker.exists():
            self._marker.write_text(str(os.getpid()), encoding="utf-8")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(block)


def refuse(item: int) -> None:
    raise UserError(f"cannot take {item}")


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'finrank[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        # Without a password for the cluster, which Ray would write into the home folder; it listens on loopback alone.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        ray.init(num_cpus=2, include_dashboard=False, logging_level="warning")
        yield
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_lines_are_those_of_one_process_also_when_a_worker_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finrank.store.result_files._LINES_PER_BLOCK", 8)
    model = str(save_tiny_ranker(tmp_path))
    pools, threads = tmp_path / "pools.jsonl", torch.get_num_threads()
    lines = [make_pool(number).model_dump_json() for number in range(150)]
    lines[70] = '{"id": "torn'
    pools.write_text("\n".join(lines) + "\n", encoding="utf-8")
    torch.set_num_threads(1)  # as in Ray's workers: the number changes rounding
    counts = rank(model, pools, tmp_path / "alone.jsonl")
    torch.set_num_threads(threads)
    assert counts == {"ranked": 149, "abstained": 0, "rejected": 1}
    monkeypatch.setattr(DyingRanker, "marker", tmp_path / "killed")
    monkeypatch.setattr(rank_command, "_BlockRanker", DyingRanker)
    for workers in (2, 1):
        assert rank(model, pools, tmp_path / "ray.jsonl", ray_workers=workers, overwrite=True) == counts
        assert int((tmp_path / "killed").read_text()) != os.getpid()
        for name in ("{}.jsonl", "{}.rejects.jsonl"):
            written = [(tmp_path / name.format(of)).read_bytes() for of in ("ray", "alone")]
            assert written[0] == written[1] != b""


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_faults_in_workers_are_errors_without_a_traceback() -> None:
    with pytest.raises(UserError, match=r"^cannot take 7$"), ray_map(refuse, 1) as refused:
        list(refused([7]))
    with pytest.raises(UserError, match="--ray_workers is 3: the Ray cluster has 2 cores"), ray_map(refuse, 3):
        pass
    with pytest.raises(UserError, match="died again and again"), ray_map(die, 1) as died:
        list(died([7]))


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    pools = tmp_path / "pools.jsonl"
    pools.write_text(make_pool(1).model_dump_json() + "\n", encoding="utf-8")
    for workers, message in ((2, r"pip install 'finrank\[ray\]'"), (0, "--ray_workers is 0")):
        with pytest.raises(UserError, match=message):
            rank("finqa-minilm", pools, tmp_path / "ranked.jsonl", ray_workers=workers)
