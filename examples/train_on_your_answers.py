"""Train a ranker on answers of your own system, with the right answer to each question.

    python examples/train_on_your_answers.py answers.jsonl my-run

A line of answers.jsonl: {"id": "q1", "page": "report 2009, page 17", "question": "...", "table": [["", "2009"], ...],
"text": ["..."], "answer": 94.0, "candidates": ["subtract(5829, 5735)", "about 97", ...]}; a few hundred lines or more.
Settings of the training may follow, as trainer.num_train_epochs=5 (docs/configuration.md).
"""

import json
import sys
from pathlib import Path

from finrank import Ranker
from finrank.commands.sft import sft
from finrank.pools.rewards import reward_pool
from finrank.ranker.requests import read_pool
from finrank.records import Pool
from finrank.seeds import seed_of

answers, run, *settings = sys.argv[1:]
run = Path(run)
data = run / "data"
data.mkdir(parents=True, exist_ok=True)
with open(answers) as lines, open(data / "train.jsonl", "w") as train, open(data / "selection.jsonl", "w") as selection:
    for line in map(json.loads, lines):
        question, candidates = read_pool(line, line["id"])
        pool = reward_pool(Pool.of(question, candidates=candidates))
        # A tenth of the pages chooses the best checkpoint, and none of them is trained on.
        print(pool.model_dump_json(), file=selection if seed_of(pool.page) % 10 == 0 else train)

stage = sft(Path("minilm"), data, run, overrides=settings)
ranker = Ranker.from_pretrained(stage)
print(ranker.rank(question="what is the sum ?", table=[["", "2009"], ["costs", "5"]], candidates=["add(5, 5)", "7"]))
