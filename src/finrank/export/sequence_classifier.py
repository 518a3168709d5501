"""A folder for transformers' `AutoModelForSequenceClassification`: one label, whose logit is the score."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from finrank.errors import UserError
from finrank.export.merged_model import MergedModel, Pair

_INSTEAD = "export with --to sentence-transformers or --to onnx"


def write_sequence_classifier(model: MergedModel, folder: Path) -> None:
    """Write the model into an empty folder; UserError where the architecture's classifier computes another score."""
    linear = [layer for layer in model.head if isinstance(layer, nn.Linear)]
    if not model.is_ordinary:
        raise UserError(
            "classifiers of transformers pool a token that sees the whole pair; this model pools the candidate's "
            f"tokens by {model.pooling}{', behind a prefix that does not see them' * model.blind_prefix}: {_INSTEAD}"
        )
    if len(linear) > 1:
        raise UserError(
            "the score head has a hidden layer, and classifiers of transformers are linear: train with --set "
            f"score_head.hidden_size=null, or {_INSTEAD}"
        )
    config = copy.deepcopy(model.encoder.config)
    config.num_labels, config.pad_token_id = 1, model.tokenizer.pad_token_id
    if model.tokenizer.pad_token_id in model.tokenizer("a", "b")["input_ids"][-1:]:
        raise UserError(f"its tokenizer has no token to pad with that does not also end a pair: {_INSTEAD}")
    # Read by CrossEncoder and vLLM, which would apply a sigmoid.
    config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
    classifier = AutoModelForSequenceClassification.from_config(config)
    weights = {f"{classifier.base_model_prefix}.{name}": one for name, one in model.encoder.state_dict().items()}
    weights["score.weight"] = linear[0].weight
    try:
        classifier.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise UserError(f"{type(classifier).__name__} has other layers than a linear `score`: {_INSTEAD}") from error
    classifier.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)


def classifier_scores(folder: Path, pairs: list[Pair]) -> np.ndarray:
    """Scores [pairs] of an exported folder."""
    classifier: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)([list(pair) for pair in pairs], padding=True, return_tensors="pt")
    with torch.inference_mode():
        scores: np.ndarray = classifier(**tokens).logits.squeeze(-1).numpy()
    return scores
