"""Exported models score as the route `naive` does, loaded by their own library in a process of their own."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from finrank.commands.export import export
from finrank.errors import UserError
from finrank.export import Format, export_model, merged_model
from finrank.export.cross_encoder import cross_encoder_scores
from finrank.export.export_model import export_model as write
from finrank.export.merged_model import MergedModel
from finrank.export.with_base import scores_with_base
from finrank.ranker.base_model import load_encoder
from finrank.ranker.choosing.confidence import load_confidence, save_confidence
from finrank.ranker.saving import find_model, read_settings
from tests.helpers.exported import naive_scores, save_model_of, scores_in_own_process
from tests.helpers.saved_ranker import fitted

LIBRARIES = {"sentence-transformers": ["sentence_transformers"], "onnx": ["onnx", "onnxscript", "onnxruntime"]}


def needs(to: str) -> None:
    for library in LIBRARIES.get(to, ()):
        pytest.importorskip(library, reason=f"{library} is not installed: pip install 'finrank[export]'")


def check_in_own_process(model_dir: Path, to: Format, folder: Path) -> None:
    export(str(model_dir), to, folder / "exported")
    pairs, expected = naive_scores(model_dir)
    alone, scores = scores_in_own_process(folder / "exported", to, pairs)
    tolerance = 1e-5 * max(1, np.abs(expected).max())
    assert np.abs(np.array(scores[:-1]) - expected).max() <= tolerance
    assert abs(alone - scores[-1]) <= tolerance
    assert np.ptp(expected) > 0.01  # else any export would pass


@pytest.mark.slow
@pytest.mark.parametrize("to", ["sentence-transformers", "onnx"])
def test_the_ready_made_model_scores_the_same_elsewhere(tmp_path: Path, to: Format) -> None:
    needs(to)
    check_in_own_process(find_model(Path("finqa-minilm")), to, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["sentence-transformers", "sequence-classification", "onnx"])
def test_a_causal_model_with_a_linear_head_scores_the_same_elsewhere(tmp_path: Path, to: Format) -> None:
    needs(to)
    check_in_own_process(save_model_of(tmp_path, "llama", None), to, tmp_path)


@pytest.mark.parametrize(
    ("family", "pooling"), [("llama", "last"), ("llama", "mean"), ("bert", "mean"), ("bert", "last")]
)
def test_every_pooling_with_its_page_scores_the_same(tmp_path: Path, family: str, pooling: str) -> None:
    needs("sentence-transformers")
    model_dir = save_model_of(tmp_path, family, pooling=pooling)
    write(model_dir, "sentence-transformers", tmp_path / "exported")
    pairs, expected = naive_scores(model_dir)
    assert np.abs(cross_encoder_scores(tmp_path / "exported", pairs) - expected).max() <= 1e-5
    own_code = (tmp_path / "exported" / "candidate_transformer.py").exists()
    assert own_code == ((family, pooling) != ("llama", "last"))


def test_the_comparison_sees_another_pooling(tmp_path: Path) -> None:
    needs("sentence-transformers")
    model_dir = save_model_of(tmp_path, "llama")
    write(model_dir, "sentence-transformers", tmp_path / "exported")
    config = tmp_path / "exported" / "1_Pooling" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text(encoding="utf-8")) | {"pooling_mode": "mean"}))
    pairs, expected = naive_scores(model_dir)
    assert np.abs(cross_encoder_scores(tmp_path / "exported", pairs) - expected).max() > 0.001


def test_adapters_that_are_not_merged_are_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_dir = save_model_of(tmp_path, "llama", None)
    monkeypatch.setattr(merged_model, "plain", lambda _: load_encoder(read_settings(model_dir)))
    with pytest.raises(UserError, match="differ"):
        write(model_dir, "sequence-classification", tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir() if "exported" in path.name] == []


@pytest.mark.parametrize("wrong", [{"blind_prefix": False}, {"pooling": "last"}], ids=str)
def test_an_encoder_that_is_pooled_or_masked_otherwise_is_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, object]
) -> None:
    needs("sentence-transformers")
    right = export_model.merge

    def merge_wrongly(*arguments: object) -> MergedModel:
        return replace(right(*arguments), **wrong)  # type: ignore[arg-type]

    monkeypatch.setattr(export_model, "merge", merge_wrongly)
    with pytest.raises(UserError, match="differ"):
        write(save_model_of(tmp_path, "bert"), "sentence-transformers", tmp_path / "exported")


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_finrank_model_with_its_base_inside_needs_nothing_else(tmp_path: Path, family: str) -> None:
    model_dir = save_model_of(tmp_path, family)
    pairs, expected = naive_scores(model_dir)
    save_confidence(model_dir, fitted())
    write(model_dir, "finrank", tmp_path / "exported")
    shutil.rmtree(tmp_path / "base")
    moved = (tmp_path / "exported").rename(tmp_path / "moved")
    assert np.abs(scores_with_base(moved, pairs) - expected).max() <= 1e-5
    assert load_confidence(moved) == load_confidence(model_dir)
    weights = moved / "base" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + bytes(4))
    with pytest.raises(UserError, match="sha256"):
        scores_with_base(moved, pairs)


def test_what_a_classifier_cannot_hold_is_refused_with_the_reason(tmp_path: Path) -> None:
    for family, hidden, reason in (("llama", 16, "score_head.hidden_size=null"), ("bert", None, "mean")):
        model_dir = save_model_of(tmp_path / family, family, hidden)
        with pytest.raises(UserError, match=reason):
            write(model_dir, "sequence-classification", tmp_path / "exported")
        assert not (tmp_path / "exported").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(UserError, match="--output_dir"):
        write(find_model(Path("finqa-minilm")), "sequence-classification", tmp_path)


def test_a_missing_library_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"onnxruntime.*finrank\[export\]"):
        write(find_model(Path("finqa-minilm")), "onnx", tmp_path / "exported")


def test_a_tokenizer_that_marks_the_start_of_a_text_is_refused(tmp_path: Path) -> None:
    """It marks the start of each row where finrank tokenizes them one by one, and of the whole text in a pair."""
    model_dir = save_model_of(tmp_path, "llama", None)
    vocabulary = {chr(code): code + 3 for code in range(300)} | {"▁": 350, "<|begin|>": 1, "<|end|>": 2, "?": 0}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    marking = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|begin|>", eos_token="<|end|>")
    loaded = merged_model.load_model(model_dir, device="cpu")
    right = AutoTokenizer.from_pretrained(model_dir)
    merged_model.score_examples(
        replace(loaded, tokenizer=right), merged_model.pair_tokenizer(right, 1000, with_types=False)
    )
    wrong = merged_model.pair_tokenizer(marking, 1000, with_types=False)
    with pytest.raises(UserError, match="one by one"):
        merged_model.score_examples(replace(loaded, tokenizer=marking), wrong)
