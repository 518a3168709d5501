"""Rank a million pools on a Ray cluster: a model per worker, one that dies is replaced, the lines keep their order.

python examples/rank_with_ray.py pools.parquet ranked.parquet 8      # needs pip install 'finrank[parquet,ray]'
RAY_ADDRESS=auto finrank rank --model finqa-minilm --input pools.parquet --output ranked.parquet --ray_workers 8
"""

import sys
from pathlib import Path

from finrank.commands.rank import rank

input_path, output_path, workers = sys.argv[1:]  # JSON lines or Parquet, here or by URL (s3://bucket/pools.parquet)
counts = rank("finqa-minilm", Path(input_path), Path(output_path), ray_workers=int(workers))
print(counts["ranked"], "ranked,", counts["abstained"], "of them abstain")
