#!/usr/bin/env bash
# Everything that needs a GPU, on a fresh machine without a network, within 10 minutes: installs, tests, benchmarks.
#
#   bash benchmarks/gpu_all.sh WHEELS OUT [--toy]
#
#   WHEELS  a folder of wheels, made where there is a network, for the GPU machine's Python and platform:
#               python -m pip wheel --wheel-dir WHEELS . pytest hypothesis
#           or - to install nothing and use what the machine has
#   OUT     a folder for the results: a JSON and a log per part, written as it runs, and the table that ends the output
#   --toy   the same at toy size, on a CPU too: to see whether it runs
#
# Variables: PYTHON (python3), TOTAL_S (600: seconds in all), REQUIREMENTS (a file for pip in place of the project's
# dependencies) and pip's own, such as PIP_NO_DEPS=1 on an image that brings torch.
#
# A part that fails or runs out of its time says so in the table, and the others run; then the exit status is 1.
set -uo pipefail

if [[ $# -lt 2 || ( $# -gt 2 && $3 != --toy ) ]]; then
    sed -n '2,/^set/{s/^# \{0,1\}//;/^set/d;p}' "$0" >&2
    exit 2
fi
repository=$(cd "$(dirname "$0")/.." && pwd)
wheels=$1
mkdir -p "$2" && out=$(cd "$2" && pwd) || exit 2
toy=${3:-}
python=${PYTHON:-python3}
total=${TOTAL_S:-600}
[[ $wheels == - ]] || wheels=$(cd "$wheels" && pwd) || exit 2
cd "$repository" || exit 2

export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
export PYTHONPATH="$repository/src:$out/packages${PYTHONPATH:+:$PYTHONPATH}"
# The generation benchmark saves 16 GB of weights: in memory where that is large enough.
if [[ -z ${TMPDIR:-} && -d /dev/shm && $(df --output=avail -k /dev/shm | tail -1) -gt 40000000 ]]; then
    in_memory=$(mktemp -d /dev/shm/finrank.XXXXXX) && export TMPDIR=$in_memory
fi
results="$out/parts.tsv"
: >"$results"

finish() {
    trap - EXIT
    [[ -z ${child:-} ]] || { kill "$child" && wait "$child"; } 2>/dev/null
    [[ -z ${in_memory:-} ]] || rm -rf "$in_memory"
    echo
    "$python" benchmarks/shared/gpu_table.py "$out" | tee "$out/table.md"
    exit "${PIPESTATUS[0]}"
}
trap finish EXIT
trap 'exit 1' INT TERM

# part NAME PERCENT COMMAND...: runs it in so many per cent of the time that is left; BUDGET in the command stands for
# the seconds that a benchmark may take, less than the limit, so that it ends by itself.
part() {
    local name=$1 limit=$(((total - SECONDS) * $2 / 100)) began=$SECONDS status=ok
    shift 2
    if ((limit < 5)); then
        printf '%s\t%s\t%s\n' "$name" "no time was left" 0 >>"$results"
        return
    fi
    echo "== $name, at most $limit s"
    timeout --kill-after=5 "$limit" "${@//BUDGET/$((limit * 9 / 10))}" > >(tee "$out/$name.log") 2>&1 &
    child=$!
    wait "$child"
    local code=$?
    child=
    [[ $code == 0 ]] || status="failed with status $code"
    [[ $code != 124 && $code != 137 ]] || status="stopped after $limit s"
    printf '%s\t%s\t%s\n' "$name" "$status" "$((SECONDS - began))" >>"$results"
}

install() {
    local requirements=${REQUIREMENTS:-$out/requirements.txt}
    [[ -n ${REQUIREMENTS:-} ]] || "$python" - >"$requirements" <<'CODE'
import tomllib

with open("pyproject.toml", "rb") as stream:
    print(*tomllib.load(stream)["project"]["dependencies"], "pytest", "hypothesis", sep="\n")
CODE
    part install 50 "$python" -m pip install --quiet --disable-pip-version-check --no-index --find-links "$wheels" \
        --target "$out/packages" --upgrade --requirement "$requirements"
}

[[ $wheels == - ]] || install
part tests 25 "$python" -m pytest -q -m gpu tests/properties/test_gpu.py --import-mode=importlib \
    -p no:cacheprovider "--junit-xml=$out/tests.xml"
if [[ $toy ]]; then
    part scoring_gpu 20 "$python" benchmarks/scoring_gpu.py --shape toy --quick --budget_s BUDGET \
        --json "$out/scoring_gpu.json"
    part llama_8b_gpu 60 "$python" benchmarks/llama_8b_gpu.py --shape toy --quick --budget_s BUDGET \
        --json "$out/llama_8b_gpu.json"
    part generation_vs_classification 90 "$python" benchmarks/generation_vs_classification.py --quick \
        --budget_s BUDGET --json "$out/generation_vs_classification.json"
else
    part scoring_gpu 20 "$python" benchmarks/scoring_gpu.py --budget_s BUDGET --json "$out/scoring_gpu.json"
    part llama_8b_gpu 65 "$python" benchmarks/llama_8b_gpu.py --budget_s BUDGET --json "$out/llama_8b_gpu.json"
    part generation_vs_classification 95 "$python" benchmarks/generation_vs_classification.py --shape llama-3-8b \
        --budget_s BUDGET --json "$out/generation_vs_classification.json"
fi
