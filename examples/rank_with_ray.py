"""Rank a million pools on a Ray cluster: every worker has a model, the lines keep their order.

python examples/rank_with_ray.py pools.jsonl ranked.jsonl 2      # 2 workers; needs pip install 'finrank[ray]'
"""

import json
import sys
from itertools import islice

import ray
from ray.util import ActorPool

from finrank import Ranker


@ray.remote(max_restarts=3, max_task_retries=3)  # Ray replaces a worker that dies, and calls `rank` again
class RankingWorker:
    def __init__(self):
        self.ranker = Ranker.from_pretrained("finqa-minilm", merge=True)

    def rank(self, block):
        pools = [json.loads(line) for line in block]
        ranked = zip(pools, self.ranker.rank_many(pools), strict=True)
        return "".join(json.dumps({"id": pool["id"], **ranking.as_json()}) + "\n" for pool, ranking in ranked)


input_path, output_path, count = sys.argv[1:]
workers = ActorPool([RankingWorker.remote() for _ in range(int(count))])
with open(input_path) as lines, open(output_path, "w") as output:
    for block in iter(lambda: list(islice(lines, 64)), []):
        if not workers.has_free():  # so that no more blocks than workers are in memory
            output.write(workers.get_next())
        workers.submit(lambda worker, lines: worker.rank.remote(lines), block)
    while workers.has_next():
        output.write(workers.get_next())
