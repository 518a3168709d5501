#!/usr/bin/env bash
# Stages 00 to 04 on the embedded data with the default model: make demo calls it.
# Usage: scripts/demo.sh DIRECTORY     everything is written under DIRECTORY; an earlier demo there is removed
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
began=$SECONDS
if [[ -e $out && ! -e $out/.made-by-demo ]]; then
    echo "error: $out exists and was not made by this script: choose another folder" >&2
    exit 2
fi
rm -rf "$out"
mkdir -p "$out" && touch "$out/.made-by-demo"
step() { printf '\n== %s  (%d s)\n' "$*" "$((SECONDS - began))"; }

step "embedded data: made-up report pages in FinQA's layout"
finrank sample-data --output_dir "$out/raw"
step "00 check"
python 00_check_data.py --input_dir "$out/raw" --json "$out/check.json"
step "01 prepare"
python 01_prepare_dataset.py --input_dir "$out/raw" --output_dir "$out/processed"
step "02 candidates"
python 02_generate_candidates.py --input_dir "$out/processed" --output_dir "$out/candidates" \
    --num_candidates 8 --corruption_rate 0.5
step "03 rewards"
python 03_build_rewards.py --input_dir "$out/candidates" --output_dir "$out/with_rewards"
step "04 control: a model that sees neither question nor page"
python 04_sft_train.py --config configs/models/minilm.yaml --input_dir "$out/with_rewards" \
    --output_dir "$out/outputs" --candidate_only --set trainer.num_train_epochs=2
step "04 training"
python 04_sft_train.py --config configs/models/minilm.yaml --input_dir "$out/with_rewards" \
    --output_dir "$out/outputs" --set trainer.num_train_epochs=2
step "evaluation of the saved model, in a fresh process, and its report"
finrank report "$out/outputs/run_002" --data "$out/with_rewards" --split dev --json "$out/evaluation.json"

step "done"
echo "report:      $out/outputs/run_002/report.html  (open it in a browser)"
echo "results:     $out/evaluation.json"
echo "model:       $out/outputs/run_002/04_sft/best_model"
echo "manifest:    $out/outputs/run_002/04_sft/training_manifest.json"
echo "pools:       $out/with_rewards"
