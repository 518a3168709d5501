"""The README.md of an exported folder: the lines of code that use it, and how to write what it reads."""

from __future__ import annotations

import json

from finrank.export.merged_model import MergedModel
from finrank.ranker.tokenizer import special_tokens

_CARD = """---
library_name: {library}
pipeline_tag: text-ranking
tags:
- finqa
- reranker
- finance
---

# {name}, exported from finrank for {library}

A ranker of candidate answers to a question about a financial report. A score, in logits, can be compared with those of
the same question only.

```python
{code}
```
"""

_READS = """
## What it reads

A pair of texts. The candidate is its calculation, each number behind its label from the page, and its value.
{prefix_is}

```python
prefix = {prefix}
candidate = {candidate}
```

finrank writes such pairs as in training: `Ranker.from_pretrained(…).pairs(request)`.
"""

_QUESTION_ALONE = "The prefix is the question alone."
_WITH_PAGE = """\
The prefix is the question and, behind {end}, the rows and sentences of the page that matter, a line each. A pair has
at most {max_length} tokens: leave out rows and sentences, do not cut the text."""

_CODE = {
    "sentence-transformers": """\
from sentence_transformers import CrossEncoder
model = CrossEncoder("{name}"{trust})
scores = model.predict([(prefix, candidate)])""",
    "transformers": """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer
tokens = AutoTokenizer.from_pretrained("{name}")([[prefix, candidate]], padding=True, return_tensors="pt")
scores = AutoModelForSequenceClassification.from_pretrained("{name}")(**tokens).logits[:, 0]""",
    "onnxruntime": """\
import onnxruntime, transformers
tokens = transformers.AutoTokenizer.from_pretrained("{name}")([[prefix, candidate]], padding=True, return_tensors="np")
(scores,) = onnxruntime.InferenceSession("{name}/model.onnx").run(None, dict(tokens))""",
    "finrank": """\
from finrank import Ranker
ranker = Ranker.from_pretrained("{name}")  # its base weights are in the folder, adapters merged
answers = ranker.rank(question="…", table=[["…"]], text=["…"], candidates=["…"])""",
}


def usage_card(model: MergedModel, library: str, name: str) -> str:
    """The card of a model for sentence-transformers, transformers, onnxruntime or finrank; `name` is its folder's."""
    trust = "" if model.is_ordinary else ", trust_remote_code=True"  # runs candidate_transformer.py of the folder
    card = _CARD.format(library=library, name=name, code=_CODE[library].format(name=name, trust=trust))
    return card if library == "finrank" else card + _reads(model)


def _reads(model: MergedModel) -> str:
    prompt, (prefix, candidate), (_, end) = model.settings.prompt, model.examples[0], special_tokens(model.tokenizer)
    written = f"`{model.tokenizer.convert_ids_to_tokens(end[0])}`" if end else "a line break"
    page = _WITH_PAGE.format(end=written, max_length=prompt.max_length)
    return _READS.format(
        prefix_is=_QUESTION_ALONE if prompt.context_tokens == 0 else page,
        prefix=json.dumps(prefix, ensure_ascii=False),
        candidate=json.dumps(candidate, ensure_ascii=False),
    )
