#!/usr/bin/env bash
# The ready-made model finqa-minilm, from the data to its folder in the package: make ready-model FINQA=DIR calls it
# (about 80 minutes on 2 cores). LoRA of rank 16, not 32, keeps the folder below 4 MB.
# Usage: scripts/ready_model.sh DIR [OUT]    DIR holds the official train.json and dev.json; OUT (default: ready) must
# be new
set -euo pipefail
raw=$(realpath "$1")
cd "$(dirname "$0")/.."
out=${2:-ready}
model=src/finrank/ready_made/finqa-minilm
if [[ -e $out ]]; then
    echo "error: $out exists: remove it, or give another folder" >&2
    exit 2
fi
finrank prepare --input_dir "$raw" --output_dir "$out/processed" --selection_share 0.03
finrank candidates --input_dir "$out/processed" --output_dir "$out/candidates" --num_candidates 8 --corruption_rate 0.5
finrank rewards --input_dir "$out/candidates" --output_dir "$out/with_rewards"
finrank sft --config minilm --set lora.rank=16 --set lora.alpha=32 --input_dir "$out/with_rewards" \
    --output_dir "$out/outputs"
finrank report "$out/outputs/run_001" --data "$out/with_rewards" --split dev --json "$out/dev.json"

rm -rf "$model"
python -c 'import sys; from finrank import Ranker; Ranker.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])' \
    "$out/outputs/run_001" "$model"
sed -i.bak 's|path/to/this/folder|finqa-minilm|' "$model/README.md"
rm "$model/README.md.bak"
cat >> "$model/README.md" <<END

## Training

\`make ready-model FINQA=DIR\` makes this model: the config \`minilm\` with \`lora.rank=16\` and \`lora.alpha=32\`, trained on
$(($(wc -l < "$out/with_rewards/train.jsonl"))) questions of FinQA's train split (Chen et al., EMNLP 2021; MIT licence), each with its gold program and 7
corrupted ones; 3 % of the train pages chose the checkpoint. No output of another system was used.

Licence: MIT. The base model, which is not in this folder, has the licence Apache-2.0.
END
size=$(cat "$model"/* | wc -c)
echo "$model: $size bytes"
if ((size > 4000000)); then
    echo "error: $model must not exceed 4,000,000 bytes" >&2
    exit 1
fi
