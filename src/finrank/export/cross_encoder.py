"""A folder for `sentence_transformers.CrossEncoder`: modules Transformer, Pooling and a Dense for each linear layer.

The library's own Transformer is enough for causal models with last-token pooling. Others need `CandidateTransformer`,
whose file is put into the folder, and which the library runs with `trust_remote_code=True` only.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import nn

from finrank.export.merged_model import MergedModel, Pair
from finrank.store import read_json, write_json

_OWN_MODULE = "candidate_transformer"


def write_cross_encoder(model: MergedModel, folder: Path) -> None:
    """Write the model into an empty folder."""
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    from finrank.export import candidate_transformer

    with TemporaryDirectory() as aside:
        model.encoder.save_pretrained(aside)
        model.tokenizer.save_pretrained(aside)
        if model.is_ordinary:
            transformer = Transformer(aside)
        else:
            options = {"add_pooling_layer": False} if hasattr(model.encoder, "pooler") else {}
            transformer = candidate_transformer.CandidateTransformer(
                aside, blind_prefix=model.blind_prefix, model_kwargs=options
            )
    pooling = Pooling(model.encoder.config.hidden_size, {"last": "lasttoken", "mean": "mean"}[model.pooling])
    modules = [transformer, pooling, *_dense_layers(model.head)]
    whole = CrossEncoder(modules=modules, device="cpu", activation_fn=nn.Identity())
    whole.save_pretrained(str(folder), create_model_card=False)
    model.tokenizer.save_pretrained(folder)  # without the options of loading that the library adds
    if not model.is_ordinary:
        shutil.copyfile(str(candidate_transformer.__file__), folder / f"{_OWN_MODULE}.py")
        described = read_json(folder / "modules.json")
        described[0]["type"] = f"{_OWN_MODULE}.{candidate_transformer.CandidateTransformer.__name__}"
        write_json(folder / "modules.json", described)


def _dense_layers(head: nn.Sequential) -> list[Any]:
    """The head's linear layers, each with the activation after it, as the library's modules."""
    from sentence_transformers.base.modules import Dense

    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    return [
        Dense(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            activation_function=nn.Identity() if layer is linear[-1] else nn.GELU(),
            init_weight=layer.weight.detach(),
            init_bias=None if layer.bias is None else layer.bias.detach(),
            module_output_name="scores" if layer is linear[-1] else None,
        )
        for layer in linear
    ]


def cross_encoder_scores(folder: Path, pairs: list[Pair]) -> np.ndarray:
    """Scores [pairs] of an exported folder."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu", trust_remote_code=True, local_files_only=True)
    scores: np.ndarray = model.predict(pairs, show_progress_bar=False)
    return scores
