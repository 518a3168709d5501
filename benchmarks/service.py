"""How many requests a second `finrank serve` answers, beside a plain server over a CrossEncoder with the same backbone.

Both servers run on loopback, each in a process of its own, and score the same requests: pools of 8 candidates, made
like the embedded sample, with a page in the prefix (about 400 tokens) or without one, as the default model reads them.
The peer is FastAPI over sentence-transformers' CrossEncoder, with the same encoder weights and a head of one label; it
gets the very text that finrank's model reads, so that parsing, labels and the choice of the page are on our side alone.
Its requests are scored one after the other, which is faster on few cores than side by side.

For each number of clients the servers take turns, round by round; a client sends its next request when the last one is
answered. Ratios are those of the throughputs of a round; every request that is not answered with a 200 counts as lost.

    python benchmarks/service.py --json service.json
    python benchmarks/service.py --clients 1 4
    python benchmarks/service.py --quick
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from finrank.ranker.prompt import PromptSettings
from finrank.records import Pool
from finrank.store import load_records, write_json

CANDIDATES = 8
# At most this much page in the prefix beside the question; 0 is the default model's, which reads a page by its labels.
PAGE_TOKENS = (380, 0)
CLIENTS, QUICK_CLIENTS = (1, 4, 16, 64), (1, 4)
ROUNDS, QUICK_ROUNDS = 3, 1
REQUESTS, QUICK_REQUESTS = 32, 4  # in a round, at least one per client
POOLS, QUICK_POOLS = 64, 8
SECONDS_OF_A_ROUND = 60.0  # no client begins a request after that
SECONDS_TO_START = 120.0
HEADERS = {"content-type": "application/json"}

Row = dict[str, Any]
Body = dict[str, Any]


def main() -> None:
    """Measure what the arguments ask for; print a line per row, and write them all with --json."""
    options = arguments()
    clients = options.clients or (QUICK_CLIENTS if options.quick else CLIENTS)
    if options.peer_server:
        run_peer(*options.peer_server)
        return
    rows = []
    with tempfile.TemporaryDirectory(prefix="service-") as place:
        pools = make_pools(Path(place), QUICK_POOLS if options.quick else POOLS)
        save_peer(Path(place) / "peer")
        with running([sys.executable, __file__, "--peer_server", str(Path(place) / "peer")]) as peer_url:
            for page_tokens in PAGE_TOKENS[:1] if options.quick else PAGE_TOKENS:
                model_dir = Path(place) / f"model_{page_tokens}"
                for row in measure(model_dir, pools, page_tokens, peer_url, clients, options.quick):
                    rows.append(row)
                    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if options.json:
        write_json(options.json, {"device": device(), "rows": rows})
    if options.write_docs:
        from shared.timing import write_section

        write_section("service", docs(rows))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"with a page alone, {QUICK_CLIENTS} clients")
    parser.add_argument("--clients", type=int, nargs="+", help=f"numbers of clients (default: {CLIENTS})")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--write_docs", action="store_true", help="replace the table in docs/benchmarks.md")
    parser.add_argument("--peer_server", nargs=1, help=argparse.SUPPRESS)  # what the peer's process is started with
    return parser.parse_args()


def make_pools(place: Path, count: int) -> list[Pool]:
    """Pools like those of the embedded sample, each page lengthened by the sentences of the others."""
    from finrank.commands import candidates, prepare, sample_data

    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        sample_data.sample_data(place / "raw", train=0, dev=count, test=0, seed=0)
        prepare.prepare(place / "raw", place / "processed")
        candidates.candidates(place / "processed", place / "pools", num_candidates=CANDIDATES)
    pools = load_records(place / "pools" / "dev.jsonl", Pool)
    sentences = list(dict.fromkeys(sentence for pool in pools for sentence in pool.text))
    return [pool.model_copy(update={"text": list(dict.fromkeys([*pool.text, *sentences]))[:60]}) for pool in pools]


@dataclass(frozen=True)
class Workload:
    """The same requests in both servers' shapes, and their size in tokens."""

    ours: list[Body]
    peer: list[Body]
    prefix: int
    candidate: int


def measure(
    model_dir: Path, pools: Sequence[Pool], page_tokens: int, peer_url: str, clients: Sequence[int], quick: bool
) -> Iterator[Row]:
    """A row per number of clients, for prefixes with so many tokens of page."""
    dtype = save_ours(model_dir, page_tokens)
    workload = make_workload(model_dir, pools)
    command = [sys.executable, "-m", "finrank", "serve", "--model", str(model_dir), "--port", "0"]
    with running(command) as our_url:
        sides = {"ours": (f"{our_url}/v1/rank", workload.ours), "peer": (f"{peer_url}/rerank", workload.peer)}
        for url, bodies in sides.values():
            send_all(url, bodies, clients=2, count=2)  # first calls are slow
        for number in clients:
            count = max(QUICK_REQUESTS if quick else REQUESTS, number)
            rounds = [
                {side: send_all(url, bodies, number, count) for side, (url, bodies) in sides.items()}
                for _ in range(QUICK_ROUNDS if quick else ROUNDS)
            ]
            yield make_row(workload, dtype, number, rounds)


def read_settings_of_default(page_tokens: int) -> Any:
    """The default model's settings (a RankerSettings), with so many tokens of page in the prefix."""
    import yaml

    from finrank.ranker.settings import RankerSettings

    config = yaml.safe_load(Path("configs/models/minilm.yaml").read_text(encoding="utf-8"))
    known = {name: value for name, value in config.items() if name in RankerSettings.model_fields}
    return RankerSettings.model_validate(
        {**known, "prompt": PromptSettings(max_length=512, context_tokens=page_tokens)}
    )


def save_ours(model_dir: Path, page_tokens: int) -> str:
    """Write a ranking model with fresh adapters and head; gives its dtype."""
    import torch

    from finrank.ranker.base_model import load_tokenizer
    from finrank.ranker.model import CandidateRankingModel
    from finrank.ranker.saving import save_model
    from finrank.ranker.settings import locate

    settings = read_settings_of_default(page_tokens)
    torch.manual_seed(0)
    save_model(CandidateRankingModel.new(settings), load_tokenizer(locate(settings.base_model)), model_dir)
    return str(settings.dtype)


def save_peer(model_dir: Path) -> None:
    """Write a CrossEncoder with the same encoder weights and a fresh head of one label."""
    from transformers import AutoModelForSequenceClassification

    from finrank.ranker.base_model import load_tokenizer
    from finrank.ranker.settings import locate

    base = locate(read_settings_of_default(0).base_model)
    AutoModelForSequenceClassification.from_pretrained(base, num_labels=1).save_pretrained(model_dir)
    load_tokenizer(base).save_pretrained(model_dir)


def make_workload(model_dir: Path, pools: Sequence[Pool]) -> Workload:
    """Requests of the pools: for us as a user sends them, for the peer as the text that our model reads."""
    from finrank.ranker.base_model import load_tokenizer
    from finrank.ranker.encoding import encode
    from finrank.ranker.saving import read_settings

    tokenizer = load_tokenizer(str(model_dir))
    prompt = read_settings(model_dir).prompt
    ours, peer, prefixes, candidates = [], [], [], []
    for pool in pools:
        encoded = encode(pool, pool.candidates, tokenizer, prompt)
        page = {"question": pool.question, "table": pool.table, "text": pool.text}
        ours.append({**page, "candidates": [candidate.program for candidate in pool.candidates]})
        # [CLS] and the last [SEP] are the peer's own.
        documents = [tokenizer.decode(tokens[:-1]) for tokens in encoded.candidates]
        peer.append({"query": tokenizer.decode(encoded.prefix[1:-1]), "documents": documents})
        prefixes.append(len(encoded.prefix))
        candidates += [len(tokens) for tokens in encoded.candidates]
    return Workload(ours, peer, round(statistics.mean(prefixes)), round(statistics.mean(candidates)))


@contextmanager
def running(command: list[str]) -> Iterator[str]:
    """Run a server that prints its address first; gives the address once it answers, and stops it at the end."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            if "http://" not in line:
                raise SystemExit(f"{' '.join(command)} did not start: {line}")
            url = "http://" + line.split("http://")[1].split()[0]
            threading.Thread(target=server.stdout.read, daemon=True).start()  # or a full pipe would stop it
            until = time.monotonic() + SECONDS_TO_START
            while not answers(url):
                if time.monotonic() > until:
                    raise SystemExit(f"{url} does not answer")
                time.sleep(0.1)
            yield url
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


def answers(url: str) -> bool:
    """Whether the server is up."""
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@dataclass(frozen=True)
class Round:
    """What one server did in one round."""

    seconds: float
    latencies: list[float]
    lost: int

    @property
    def per_s(self) -> float:
        """Answered requests a second."""
        return len(self.latencies) / self.seconds


def send_all(url: str, bodies: Sequence[Body], clients: int, count: int) -> Round:
    """Send `count` requests from so many clients, each waiting for its answer before the next."""
    return asyncio.run(_send_all(url, bodies, clients, count))


async def _send_all(url: str, bodies: Sequence[Body], clients: int, count: int) -> Round:
    numbers = iter(range(count))
    latencies: list[float] = []
    began = time.perf_counter()

    async def client(http: httpx.AsyncClient) -> None:
        for number in numbers:
            if time.perf_counter() - began > SECONDS_OF_A_ROUND:
                return
            sent = time.perf_counter()
            try:
                response = await http.post(url, json=bodies[number % len(bodies)])
            except httpx.TransportError:
                continue
            if response.status_code == 200:
                latencies.append(time.perf_counter() - sent)

    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(timeout=2 * SECONDS_OF_A_ROUND, limits=limits) as http:
        await asyncio.gather(*(client(http) for _ in range(clients)))
    begun = count - sum(1 for _ in numbers)
    return Round(time.perf_counter() - began, latencies, begun - len(latencies))


def make_row(workload: Workload, dtype: str, clients: int, rounds: Sequence[dict[str, Round]]) -> Row:
    """The figures of one number of clients; seconds are per request, p50 and p99 those of waiting for an answer."""
    ratios = [both["ours"].per_s / both["peer"].per_s for both in rounds if both["peer"].per_s]
    row: Row = {
        "n": CANDIDATES,
        "prefix": workload.prefix,
        "candidate": workload.candidate,
        "dtype": dtype,
        "peer": "FastAPI over CrossEncoder",
        "clients": clients,
        "requests": sum(len(both["ours"].latencies) for both in rounds),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_quartiles": [round(value, 2) for value in quartiles(ratios)],
    }
    for side in ("ours", "peer"):
        latencies = sorted(latency for both in rounds for latency in both[side].latencies)
        per_s = statistics.median(both[side].per_s for both in rounds)
        row[f"{side}_s"] = round(1 / per_s, 5)
        row[f"{side}_per_s"] = round(per_s, 2)
        row[f"{side}_p50_s"] = round(statistics.median(latencies), 4)
        row[f"{side}_p99_s"] = round(latencies[min(len(latencies) - 1, int(0.99 * len(latencies)))], 4)
        row[f"{side}_lost"] = sum(both[side].lost for both in rounds)
    return row


def docs(rows: Sequence[Row]) -> str:
    """The table of docs/benchmarks.md."""
    from shared.timing import table

    heads = ["P", "C", "clients", "throughput, ratio", "ours / its per s", "p50, s", "p99, s", "lost"]
    lines = [
        [
            row["prefix"],
            row["candidate"],
            row["clients"],
            "{:.2f} ({:.2f}-{:.2f})".format(row["ratio"], *row["ratio_quartiles"]),
            *(f"{row[f'ours_{key}']} / {row[f'peer_{key}']}" for key in ("per_s", "p50_s", "p99_s", "lost")),
        ]
        for row in rows
    ]
    return f"{device()}; {CANDIDATES} candidates; medians of {ROUNDS} rounds.\n\n{table(heads, lines)}"


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper one; of a single value, that value twice."""
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def run_peer(model: str) -> None:
    """The peer: FastAPI over a CrossEncoder, on a free port."""
    import uvicorn
    from fastapi import Body as JsonBody
    from fastapi import FastAPI
    from sentence_transformers import CrossEncoder

    encoder = CrossEncoder(model, num_labels=1)
    one_at_a_time = threading.Lock()
    app = FastAPI()

    @app.post("/rerank")
    def rerank(body: dict[str, Any] = JsonBody()) -> dict[str, Any]:  # noqa: B008
        pairs = [(body["query"], document) for document in body["documents"]]
        with one_at_a_time:
            scores = encoder.predict(pairs, show_progress_bar=False)
        order = sorted(range(len(pairs)), key=lambda index: -float(scores[index]))
        return {"results": [{"index": index, "relevance_score": float(scores[index])} for index in order]}

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    # TCP by name, as with `uvicorn.run` and in our server: the body does not wait until the head is acknowledged.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as opened:
        opened.bind(("127.0.0.1", 0))
        print(f"http://127.0.0.1:{opened.getsockname()[1]}", flush=True)
        uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning")).run(sockets=[opened])


def device() -> str:
    """The processor or GPU, the cores and the versions that ran."""
    import sentence_transformers
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else names[0] if names else platform.machine()
    versions = f"torch {torch.__version__}, sentence-transformers {sentence_transformers.__version__}"
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


if __name__ == "__main__":
    main()
