"""Models to export, questions for them, and what an exported folder's own library says, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finrank.ranker.encoding import encode, write_pairs
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.prompt import PromptSettings
from finrank.ranker.requests import read_request
from finrank.ranker.saving import load_model, save_model
from finrank.ranker.scoring import score_pass
from finrank.ranker.settings import HeadSettings, LoraSettings, RankerSettings
from finrank.ranker.tokenizer import load_tokenizer
from finrank.sources.made_up import generate
from tests.helpers.attention_models import give_effect
from tests.helpers.tiny_models import save_tiny_base

Pair = tuple[str, str]
# What a user of the library writes around the README's lines, to score all pairs in one batch.
_ALL = {
    "sentence-transformers": "scores = model.predict(pairs)",
    "sequence-classification": """
tokens = AutoTokenizer.from_pretrained("exported")(pairs, padding=True, return_tensors="pt")
scores = AutoModelForSequenceClassification.from_pretrained("exported")(**tokens).logits[:, 0].detach()""",
    "onnx": """
tokens = transformers.AutoTokenizer.from_pretrained("exported")(pairs, padding=True, return_tensors="np")
(scores,) = onnxruntime.InferenceSession("exported/model.onnx").run(None, dict(tokens))""",
}


def save_model_of(folder: Path, family: str, hidden: int | None = 16, **settings: Any) -> Path:
    """A tiny random ranker whose adapters have an effect, in `folder`."""
    base = save_tiny_base(folder / "base", family)
    definition = RankerSettings(
        base_model=str(base),
        prompt=PromptSettings(max_length=1000),
        lora=LoraSettings(rank=4),
        score_head=HeadSettings(hidden_size=hidden),
        **settings,
    )
    torch.manual_seed(0)
    model = CandidateRankingModel.new(definition)
    give_effect(model)
    save_model(model, load_tokenizer(str(base)), folder / "model")
    return folder / "model"


def requests() -> list[dict[str, Any]]:
    """Questions on made-up pages, with candidates of many lengths."""
    return [
        {
            "question": example["qa"]["question"],
            "table": example["table"],
            "text": [*example["pre_text"], *example["post_text"]],
            "candidates": [example["qa"]["program"], example["qa"]["exe_ans"], "add(1, 2)", -5.5, "subtract(7, 3)"],
        }
        for example in generate(train=0, dev=4, test=0)["dev"]
    ]


def naive_scores(model_dir: Path) -> tuple[list[Pair], np.ndarray]:
    """The requests as pairs of texts, and their scores by the route `naive`, adapters not merged."""
    loaded = load_model(model_dir, device="cpu")
    pairs: list[Pair] = []
    pools = []
    for number, request in enumerate(requests()):
        read = (*read_request(request, str(number)), loaded.tokenizer, loaded.model.settings.prompt)
        pools.append(encode(*read))
        pairs += write_pairs(*read).values()
    return pairs, np.concatenate(score_pass(loaded.model, pools, "naive"))


def scores_in_own_process(folder: Path, to: str, pairs: list[Pair]) -> tuple[float, list[float]]:
    """The score of the README's example by the README's lines; of the pairs and the example, in one batch.

    finrank is not imported there.
    """
    code, texts = re.findall(r"```python\n(.+?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    script = f"""
import json, sys
pairs = json.load(sys.stdin)
{texts}{code}
example = float(scores[0])
pairs.append([prefix, candidate])
{_ALL[to]}
assert not [name for name in sys.modules if name.partition(".")[0] == "finrank"]
print(json.dumps([example, scores.tolist()]))"""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder.parent,
        input=json.dumps(pairs),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    example, scores = json.loads(done.stdout.splitlines()[-1])
    return example, scores
