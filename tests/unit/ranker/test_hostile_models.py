"""Model folders of strangers: their code never runs, they fetch nothing unnamed, and damage is an error in time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from finrank import Ranker
from finrank.errors import UserError
from finrank.generator.model import load_generator
from finrank.proposer.proposer_files import load_proposer
from finrank.ranker import settings
from finrank.ranker.base_model import load_encoder
from finrank.ranker.choosing.chooser import CHOOSER
from finrank.ranker.choosing.confidence import CONFIDENCE
from finrank.ranker.saving import ADAPTER, CONFIG, HEAD, TOKENIZER
from finrank.ranker.settings import LoraSettings, RankerSettings, weights_file
from finrank.ranker.tokenizer import load_tokenizer
from finrank.store import sha256
from tests.helpers.saved_ranker import fitted, save_tiny_ranker
from tests.helpers.tiny_models import save_tiny_base

SECONDS = 20.0  # to refuse a folder, at most


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_ranker(tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A model folder of a test's own, complete and right."""
    return shutil.copytree(saved, tmp_path / "model")


def rehash(model: Path, **changes: Any) -> None:
    """Make the config fit the files again, and change it."""
    config = json.loads((model / CONFIG).read_text())
    config["parts"] = {name: sha256(model / name) for name in config["parts"]}
    (model / CONFIG).write_text(json.dumps({**config, **changes}))


def refused(model: Path) -> str:
    """The message with which a folder is refused, in time."""
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        Ranker.from_pretrained(model, device="cpu")
    assert time.monotonic() - began < SECONDS
    return str(error.value)


# Code of strangers


@pytest.mark.parametrize(
    "named",
    ["mymodel.evil.x/y", "mymodel.evil/y", "mymodel.evil", ".evil/y", "mymodel/../../y", "mymodel//etc", "my-model/y",
     "/y", "", "__main__/y", "evil\x00/y"],
)  # fmt: skip
def test_a_package_is_named_by_one_plain_name_and_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    folder = tmp_path / "mymodel"
    folder.mkdir()
    for name in ("__init__.py", "evil.py"):
        (folder / name).write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    (folder / "y").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="package"):
        weights_file(f"package:{named}")
    assert weights_file("package:mymodel/y") == folder / "y" / "model.safetensors"
    assert not (tmp_path / "ran").exists()


def planted(base: Path, marker: Path) -> Path:
    """Code in a base model's folder that its config and tokenizer ask to run."""
    (base / "evil.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass E: pass\n")
    for name, classes in {
        "config.json": {"AutoConfig": "evil.E", "AutoModel": "evil.E", "AutoModelForCausalLM": "evil.E"},
        "tokenizer_config.json": {"AutoTokenizer": ["evil.E", "evil.E"]},
    }.items():
        config = json.loads((base / name).read_text())
        config |= {"auto_map": classes, "model_type": "evil", "tokenizer_class": "Evil"}
        (base / name).write_text(json.dumps(config))
    return base


def test_code_in_a_base_model_never_runs_and_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = planted(save_tiny_base(tmp_path / "base", "bert"), tmp_path / "ran")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(UserError, match="base"):
        load_encoder(RankerSettings(base_model=str(base)))
    with pytest.raises(UserError, match="base"):
        load_tokenizer(str(base))
    assert not (tmp_path / "ran").exists()


def test_code_in_a_model_folder_never_runs(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    (model / "config.json").write_text("{}")
    planted(model, tmp_path / "ran")
    rehash(model)
    with suppress(UserError):
        Ranker.from_pretrained(model, device="cpu")
    assert not (tmp_path / "ran").exists()


# What a model names elsewhere


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address that is asked for over the network, all unreachable."""
    addresses: list[str] = []

    def refuse(self: Any, request: Any, **_: Any) -> Any:
        addresses.append(str(request.url))
        raise huggingface_hub.errors.OfflineModeIsEnabled("not here")

    client = type(huggingface_hub.utils.get_session())
    monkeypatch.setattr(client, "send", refuse)
    return addresses


def test_an_adapter_in_place_of_a_base_model_is_refused_and_what_it_names_is_not_fetched(
    tmp_path: Path, asked: list[str]
) -> None:
    base = save_tiny_base(tmp_path / "base", "bert")
    (base / "adapter_config.json").write_text('{"base_model_name_or_path": "stranger/model", "peft_type": "LORA"}')
    for whole in (True, False):
        if not whole:
            (base / "config.json").unlink()
        with pytest.raises(UserError, match="adapter"):
            load_encoder(RankerSettings(base_model=str(base)))
    assert not any("stranger" in address for address in asked)


@pytest.mark.parametrize("base_model", ["https://example.com/model", "file:///etc", "s3://bucket/model"])
def test_a_url_as_a_base_model_is_refused(model: Path, asked: list[str], base_model: str) -> None:
    rehash(model, base_model=base_model, base_model_sha256=None)
    assert f"names '{base_model}' as its base model: name a local copy" in refused(model)
    assert asked == []


def test_a_base_model_on_the_hub_is_named_before_it_is_fetched(
    model: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rehash(model, base_model="stranger/model", base_model_sha256=None)
    monkeypatch.setattr(settings, "note", asked.append)
    assert "stranger/model" in refused(model)
    named, *fetched = asked
    assert named.endswith("names a base model on the Hugging Face hub, which is fetched now: stranger/model")
    assert any("stranger/model" in address for address in fetched)


def test_a_base_model_outside_the_folder_is_named_and_one_inside_or_given_is_not(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = json.loads((model / CONFIG).read_text())["base_model"]
    Ranker.from_pretrained(model, device="cpu")
    assert f"names base weights outside of its folder: {outside}" in " ".join(capsys.readouterr().err.split())
    Ranker.from_pretrained(model, device="cpu", base_model=outside)
    assert "outside" not in capsys.readouterr().err
    inside = shutil.copytree(outside, model / "base")
    rehash(model, base_model=str(inside))
    Ranker.from_pretrained(model, device="cpu")
    assert "outside" not in capsys.readouterr().err


# Damage behind right hashes


def not_finite(name: str, value: float) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        weights = load_file(model / name)
        first = sorted(weights)[0]
        weights[first].view(-1)[-1] = value
        save_file(weights, model / name)

    return change


def renamed(model: Path) -> None:
    weights = load_file(model / HEAD)
    save_file({f"other.{name}": value for name, value in weights.items()}, model / HEAD)


def larger(model: Path) -> None:
    weights = load_file(model / HEAD)
    save_file({name: torch.zeros(*(2 * size for size in value.shape)) for name, value in weights.items()}, model / HEAD)


def content(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda model: (model / name).write_bytes(data) and None  # type: ignore[func-returns-value, return-value]


def cut(name: str) -> Callable[[Path], None]:
    return lambda model: os.truncate(model / name, (model / name).stat().st_size // 2)


def more_tokens(model: Path) -> None:
    tokenizer = json.loads((model / TOKENIZER[1]).read_text())
    tokenizer["model"]["vocab"]["beyond"] = 100_000
    (model / TOKENIZER[1]).write_text(json.dumps(tokenizer))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a nan in the head": not_finite(HEAD, float("nan")),
    "an infinite weight in the adapter": not_finite(ADAPTER[1], float("-inf")),
    "the head's tensors renamed": renamed,
    "the head of another size": larger,
    "half a head": cut(HEAD),
    "half an adapter": cut(ADAPTER[1]),
    "an empty adapter": content(ADAPTER[1], b""),
    "a header of 2**60 bytes": content(HEAD, (2**60).to_bytes(8, "little") + b"{}"),
    "half a tokenizer": cut(TOKENIZER[1]),
    "an empty tokenizer": content(TOKENIZER[1], b"{}"),
    "a tokenizer of a list": content(TOKENIZER[1], b"[]"),
    "a tokenizer nested deeply": content(TOKENIZER[1], b"[" * 100_000),
    "a tokenizer config that is a list": content(TOKENIZER[0], b"[]"),
    "a tokenizer config nested deeply": content(TOKENIZER[0], b"[" * 100_000),
    "tokens that the base does not have": more_tokens,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_with_the_right_hash_is_an_error(model: Path, damage: str) -> None:
    DAMAGE[damage](model)
    rehash(model)
    assert str(model) in refused(model)


BOMB = "(a+)+" * 20 + "$"
CONFIGS: dict[str, Any] = {
    "a pattern of layers": {"lora": {"target_modules": BOMB}},
    "a pattern in a list": {"lora": {"target_modules": ["dense", BOMB]}},
    "layers that are not there": {"lora": {"target_modules": ["nowhere"]}},
    "an adapter larger than memory": {"lora": {"rank": 10**12}},
    "a scale beyond numbers": {"lora": {"rank": 4, "alpha": 10**400}},
    "a head larger than memory": {"score_head": {"hidden_size": 10**12}},
    "parts that are a list": {"parts": ["score_head.safetensors"]},
    "parts that are a number": {"parts": 3},
    "an infinite version": {"prompt_version": float("inf")},
    "an empty name": {"base_model": "", "base_model_sha256": None},
    "a name with a null": {"base_model": "a\x00b", "base_model_sha256": None},
    "a device": {"base_model": "/dev/zero", "base_model_sha256": None},
    "parents": {"base_model": "../../../..", "base_model_sha256": None},
}


@pytest.mark.parametrize("change", CONFIGS)
def test_settings_that_cannot_be_are_an_error(model: Path, asked: list[str], change: str) -> None:
    rehash(model, **CONFIGS[change])
    refused(model)


@pytest.mark.parametrize("text", ["[]", "3", "[" * 100_000, '{"parts": ' * 50_000, "\xff", "", "nan"])
def test_a_config_that_is_not_one_is_an_error(model: Path, text: str) -> None:
    (model / CONFIG).write_text(text, encoding="latin-1")
    assert "damaged" in refused(model)


@pytest.mark.parametrize("name", [CONFIDENCE, CHOOSER])
@pytest.mark.parametrize("kind", ["pipe", "folder", "nested", "huge", "list", "device"])
def test_odd_files_beside_a_model_are_an_error_in_time(model: Path, name: str, kind: str) -> None:
    path = model / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "huge":
        path.touch()
        os.truncate(path, 10**11)  # sparse
    else:
        path.write_text("[]" if kind == "list" else "[" * 100_000)
    assert f"{path} is damaged" in refused(model)


NOT_FINITE = [float("nan"), float("inf"), -float("inf"), 1e-300, 1e300]


@pytest.mark.parametrize("value", NOT_FINITE)
def test_a_temperature_a_threshold_and_weights_are_numbers_that_leave_probabilities(model: Path, value: float) -> None:
    whole = fitted(score_head=sha256(model / HEAD)).model_dump(mode="json")
    share = {"wanted_accuracy": 0.9, "value": 0.5, "coverage": 0.5, "accuracy": 0.9, "lower_bound": 0.9}
    hostile = [(CONFIDENCE, {**whole, "temperature": value})]
    if value != 1e-300:
        hostile += [(CONFIDENCE, {**whole, "threshold": {**share, "value": value}})]
        hostile += [(CHOOSER, {name: value}) for name in ("votes", "near", "program", "proposed")]
        hostile += [(CHOOSER, {"systems": {"mine": value}})]
    for name, changed in hostile:
        (model / name).write_text(json.dumps(changed))
        assert f"{model / name} is damaged" in refused(model)
        (model / name).unlink()


def test_base_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    base = save_tiny_base(tmp_path / "base", "bert")
    not_finite("model.safetensors", float("nan"))(base)
    with pytest.raises(UserError, match=r"base is damaged: .* not finite"):
        load_encoder(RankerSettings(base_model=str(base)))


def test_a_proposer_and_a_generator_are_read_as_carefully(tmp_path: Path) -> None:
    for load, config in ((load_proposer, "proposer_config.json"), (load_generator, "generator_config.json")):
        folder = tmp_path / config
        folder.mkdir()
        for name in (*ADAPTER, *TOKENIZER, "proposer.safetensors"):
            (folder / name).touch()
        (folder / config).write_text("[" * 100_000)
        with pytest.raises(UserError, match="damaged"):
            load(folder)


def test_finite_weights_that_overflow_never_become_an_answer(model: Path) -> None:
    weights = load_file(model / HEAD)
    save_file({name: torch.full_like(value, 3e38) for name, value in weights.items()}, model / HEAD)
    rehash(model)
    ranker = Ranker.from_pretrained(model, device="cpu")
    with pytest.raises(UserError, match="not finite"):
        ranker.rank(question="what ?", candidates=["add(1, 2)", "add(1, 3)"])


@pytest.mark.parametrize("names", ["all-linear", ["query", "value"], "attention.self.query", ["0", "2"]])
def test_names_of_layers_are_taken(names: Any) -> None:
    assert LoraSettings(target_modules=names).target_modules == names


def test_a_hostile_model_is_one_error_line_of_a_command(model: Path, tmp_path: Path) -> None:
    os.mkfifo(model / CONFIDENCE)
    (tmp_path / "in.jsonl").write_text("{}\n")
    command = [sys.executable, "-m", "finrank", "rank", "--model", str(model), "--input", "in.jsonl", "--output", "o"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in run.stderr
