"""Parts that do not belong to a model: pickles, of which none is ever read, another tokenizer, another head."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import finrank
from finrank import Ranker
from finrank.commands.sft import sft
from finrank.errors import UserError
from finrank.ranker.base_model import load_encoder
from finrank.ranker.saving import ADAPTER, CONFIG, HEAD, TOKENIZER
from finrank.ranker.settings import RankerSettings
from finrank.store import sha256
from tests.helpers.pools import write_pools
from tests.helpers.saved_ranker import POOL, save_tiny_ranker
from tests.helpers.tiny_models import save_tiny_base
from tests.helpers.training_runs import CONFIGS, SMALL, killed_at

PICKLES = (
    *("pytorch_model.bin", "adapter_model.bin", "score_head.pt", "model.pkl", "tokenizer.pkl", "training_args.bin"),
    *("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth"),
)


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def plant(folder: Path, marker: Path, names: tuple[str, ...] = PICKLES) -> None:
    """Pickles that touch the marker, in place of whatever has these names; plain ones, and those of torch."""
    for number, name in enumerate(names):
        if number % 2:
            torch.save({"state": Payload(marker)}, folder / name)
        else:
            (folder / name).write_bytes(pickle.dumps(Payload(marker)))


def test_the_payload_would_be_seen(tmp_path: Path) -> None:
    plant(tmp_path, tmp_path / "ran")
    pickle.loads((tmp_path / PICKLES[0]).read_bytes())
    (tmp_path / "ran").unlink()
    torch.load(tmp_path / PICKLES[1], weights_only=False)
    (tmp_path / "ran").unlink()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny_ranker(tmp_path)


def test_pickles_beside_a_model_and_its_base_are_not_read(model: Path, tmp_path: Path) -> None:
    expected = Ranker.from_pretrained(model, device="cpu").rank(**POOL)
    plant(model, tmp_path / "ran")
    plant(model.parent / "base", tmp_path / "ran")
    assert Ranker.from_pretrained(model, device="cpu").rank(**POOL) == expected
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", ["payload", "zipped payload", "weights"])
def test_pickles_in_place_of_base_weights_are_refused(tmp_path: Path, content: str) -> None:
    base = save_tiny_base(tmp_path / "base", "bert")
    if content == "weights":
        torch.save(load_file(base / "model.safetensors"), base / "pytorch_model.bin")
    else:
        plant(base, tmp_path / "ran", ("pytorch_model.bin",) if content == "payload" else ("x", "pytorch_model.bin"))
    (base / "model.safetensors").unlink()
    with pytest.raises(
        UserError, match=r"base holds no model.*it has no model\.safetensors, and weights in pickles are not read"
    ):
        load_encoder(RankerSettings(base_model=str(base)))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("part", [ADAPTER[1], HEAD])
def test_a_pickle_in_place_of_a_part_is_a_missing_part(model: Path, tmp_path: Path, part: str) -> None:
    plant(model, tmp_path / "ran")
    (model / part).unlink()
    with pytest.raises(UserError, match=f"not a complete model: {part}"):
        Ranker.from_pretrained(model, device="cpu")
    plant(model, tmp_path / "ran", (part,))
    with pytest.raises(UserError, match="not the file that was saved"):
        Ranker.from_pretrained(model, device="cpu")
    rehash(model)
    with pytest.raises(UserError, match=f"{part} is damaged"):
        Ranker.from_pretrained(model, device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_pickles_in_a_checkpoint_never_run(tmp_path: Path) -> None:
    base, data, outputs = save_tiny_base(tmp_path / "base", "bert"), write_pools(tmp_path / "data"), tmp_path / "out"
    settings = {"base_model": str(base), "overrides": [*SMALL, "trainer.eval_steps=2", "trainer.eval_strategy=steps"]}
    with killed_at(3):
        sft(CONFIGS / "minilm.yaml", data, outputs, **settings)
    checkpoint = outputs / "run_001" / "04_sft" / "checkpoints" / "checkpoint-2"
    (checkpoint / "scaler.pt").touch()  # of half precision
    for name in ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth"):
        whole = (checkpoint / name).read_bytes()
        for names in ((name,), ("training_args.bin", name)):
            plant(checkpoint, tmp_path / "ran", names)
            with pytest.raises(UserError, match=r"checkpoint-2 is damaged .*: delete it"):
                sft(CONFIGS / "minilm.yaml", data, outputs, resume=True, **settings)
        (checkpoint / name).write_bytes(whole)
        if name == "scaler.pt":
            (checkpoint / name).unlink()
    # A checkpoint without a readable state does not count: the training begins anew.
    plant(checkpoint, tmp_path / "ran", ("training_args.bin", "pytorch_model.bin", "trainer_state.json"))
    assert sft(CONFIGS / "minilm.yaml", data, outputs, resume=True, **settings).parent.name == "run_001"
    assert not (tmp_path / "ran").exists()


def test_no_code_of_ours_reads_pickles() -> None:
    forbidden = {"pickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
    for path in Path(finrank.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            names |= {ast.unparse(node.func)} if isinstance(node, ast.Call) else set()
            assert not names & {*forbidden, "torch.load", "np.load", "numpy.load"}, path


def rehash(model: Path) -> None:
    """Make the config fit the files again."""
    config = json.loads((model / CONFIG).read_text())
    config["parts"] = {name: sha256(model / name) for name in config["parts"]}
    (model / CONFIG).write_text(json.dumps(config))


def test_a_tokenizer_of_another_model_is_refused(model: Path) -> None:
    other = json.loads((model / TOKENIZER[1]).read_text())
    vocabulary = other["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.get)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (model / TOKENIZER[1]).write_text(json.dumps(other))
    with pytest.raises(UserError, match="not the file that was saved"):
        Ranker.from_pretrained(model, device="cpu")
    rehash(model)
    with pytest.raises(UserError, match=r"tokenizer\.json has another vocabulary than .*base"):
        Ranker.from_pretrained(model, device="cpu")


def test_a_head_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    other = save_tiny_ranker(tmp_path / "other")
    weights = load_file(other / HEAD)
    save_file({name: value + 1 for name, value in weights.items()}, model / HEAD)
    with pytest.raises(UserError, match=f"{HEAD} is not the file that was saved"):
        Ranker.from_pretrained(model, device="cpu")
    narrow = {name: value[..., :-1].contiguous() for name, value in weights.items()}
    save_file(narrow, model / HEAD)
    rehash(model)
    with pytest.raises(UserError, match=f"{HEAD} does not fit"):
        Ranker.from_pretrained(model, device="cpu")
    (model / HEAD).unlink()
    with pytest.raises(UserError, match=f"not a complete model: {HEAD} missing"):
        Ranker.from_pretrained(shutil.copytree(model, tmp_path / "copy"), device="cpu")
