"""Requests a second of `finrank serve`, compared with a plain server over a CrossEncoder with the same backbone.

Both run on loopback, each in its own process, and score the same pools of 8 candidates of the embedded data, with a
page in the prefix (about 400 tokens) or without one, as the default model reads them. The peer is FastAPI over
sentence-transformers' CrossEncoder; it reads the text that finrank's model reads, so that parsing, labels and the
choice of the page are on our side alone, and scores one request at a time, which is faster on few cores.

For each number of clients the servers take turns, round by round; a client sends its next request when the last one is
answered. Ratios are of the throughputs of a round; a request that is not answered with a 200 counts as lost.

    python benchmarks/service.py --json service.json
    python benchmarks/service.py --clients 1 4
    python benchmarks/service.py --quick
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import torch
from shared.pools import Work, embedded_pools
from shared.tables import RATIO, Row, device, parser, show, table, write_results, write_section
from shared.timing import quartiles

from finrank.ranker.encoding import encode
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.prompt import PromptSettings
from finrank.ranker.saving import read_settings, save_model
from finrank.ranker.settings import locate
from finrank.ranker.tokenizer import load_tokenizer
from finrank.records import RewardedPool
from finrank.store import load_records
from finrank.training.config import load_config

CANDIDATES = 8
# Tokens of page in the prefix, at most; 0 as in the default model, which reads a page by its labels.
PAGE_TOKENS = (380, 0)
CLIENTS, QUICK_CLIENTS = (1, 4, 16, 64), (1, 4)
ROUNDS, QUICK_ROUNDS = 3, 1
REQUESTS, QUICK_REQUESTS = 32, 4  # in a round, at least one per client
POOLS, QUICK_POOLS = 64, 8
SECONDS_OF_A_ROUND = 60.0  # no client begins a request after that
CONNECTION_RETRIES = 9  # with growing pauses, about two minutes in all
MINILM = load_config(Path(__file__).parents[1] / "configs" / "models" / "minilm.yaml")

Body = dict[str, Any]


def main() -> None:
    """Measure both servers; print a row per number of clients, and write the rows with --json."""
    arguments = parser(__doc__, f"with a page alone, {QUICK_CLIENTS} clients")
    arguments.add_argument("--clients", type=int, nargs="+", help=f"numbers of clients (default: {CLIENTS})")
    arguments.add_argument("--peer_server", action="store_true", help=argparse.SUPPRESS)  # starts the peer's process
    options = arguments.parse_args()
    if options.peer_server:
        run_peer()
        return
    clients = options.clients or (QUICK_CLIENTS if options.quick else CLIENTS)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="service-") as name:
        folder = Path(name)
        pools = long_pools(folder, QUICK_POOLS if options.quick else POOLS)
        with running([sys.executable, __file__, "--peer_server"]) as peer_url:
            for page_tokens in PAGE_TOKENS[:1] if options.quick else PAGE_TOKENS:
                model_dir = folder / f"model_{page_tokens}"
                save_ours(model_dir, page_tokens)
                rows += measure(pools, model_dir, peer_url, clients, options.quick)
    write_results(options.json, rows, device=device("torch", "sentence-transformers"))
    if options.write_docs:
        write_section("service", docs(rows))


def long_pools(folder: Path, count: int) -> list[RewardedPool]:
    """Pools of the embedded data, each page lengthened by the sentences of the others."""
    pools = load_records(embedded_pools(folder, 0, count, CANDIDATES) / "dev.jsonl", RewardedPool)
    sentences = [sentence for pool in pools for sentence in pool.text]
    texts = [list(dict.fromkeys([*pool.text, *sentences]))[:60] for pool in pools]
    return [pool.model_copy(update={"text": text}) for pool, text in zip(pools, texts, strict=True)]


def save_ours(model_dir: Path, page_tokens: int) -> None:
    """Write the default model with fresh adapters and head, and so many tokens of page in its prefix."""
    prompt = PromptSettings(max_length=512, context_tokens=page_tokens)
    settings = MINILM.ranker_settings().model_copy(update={"prompt": prompt})
    torch.manual_seed(0)
    save_model(CandidateRankingModel.new(settings), load_tokenizer(locate(settings.base_model)), model_dir)


def requests_of(pools: Sequence[RewardedPool], model_dir: Path) -> tuple[Work, list[Body], list[Body]]:
    """Mean sizes, and the requests: for us as a user sends them, for the peer as the text that our model reads."""
    tokenizer, settings = load_tokenizer(str(model_dir)), read_settings(model_dir)
    ours, peer, prefixes, candidates = [], [], [], []
    for pool in pools:
        encoded = encode(pool, pool.candidates, tokenizer, settings.prompt)
        page = {"question": pool.question, "table": pool.table, "text": pool.text}
        ours.append({**page, "candidates": [pool.candidates[index].program for index in encoded.scored]})
        # The peer adds [CLS] and the last [SEP] itself.
        documents = [tokenizer.decode(tokens[:-1]) for tokens in encoded.candidates]
        peer.append({"query": tokenizer.decode(encoded.prefix[1:-1]), "documents": documents})
        prefixes.append(len(encoded.prefix))
        candidates += [len(tokens) for tokens in encoded.candidates]
    sizes = round(statistics.mean(prefixes)), round(statistics.mean(candidates))
    return Work(CANDIDATES, *sizes, settings.dtype), ours, peer


def measure(
    pools: Sequence[RewardedPool], model_dir: Path, peer_url: str, clients: Sequence[int], quick: bool
) -> Iterator[Row]:
    """A row per number of clients."""
    work, ours, peer = requests_of(pools, model_dir)
    with running([sys.executable, "-m", "finrank", "serve", "--model", str(model_dir), "--port", "0"]) as our_url:
        sides = {"ours": (f"{our_url}/v1/rank", ours), "peer": (f"{peer_url}/rerank", peer)}
        for url, bodies in sides.values():
            asyncio.run(send_all(url, bodies, clients=2, count=2))  # first calls are slow
        for number in clients:
            count = max(QUICK_REQUESTS if quick else REQUESTS, number)
            rounds = [
                {side: asyncio.run(send_all(url, bodies, number, count)) for side, (url, bodies) in sides.items()}
                for _ in range(QUICK_ROUNDS if quick else ROUNDS)
            ]
            yield show(make_row(work, number, rounds))


@contextmanager
def running(command: list[str]) -> Iterator[str]:
    """Run a server that prints its address first; yield the address once it answers; stop it at the end."""
    unbuffered = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=unbuffered) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            if "http://" not in line:
                raise SystemExit(f"{' '.join(command)} did not start: {line}")
            url = "http://" + line.split("http://")[1].split()[0]
            threading.Thread(target=server.stdout.read, daemon=True).start()  # a full pipe would block it
            with httpx.Client(transport=httpx.HTTPTransport(retries=CONNECTION_RETRIES)) as http:
                http.get(f"{url}/health", timeout=60).raise_for_status()
            yield url
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


@dataclass(frozen=True)
class Round:
    """One server's round: its seconds, the latencies of its answers, and how many requests went unanswered."""

    seconds: float
    latencies: list[float]
    lost: int

    @property
    def per_s(self) -> float:
        """Answered requests a second."""
        return len(self.latencies) / self.seconds


async def send_all(url: str, bodies: Sequence[Body], clients: int, count: int) -> Round:
    """Send `count` requests from so many clients, each waiting for its answer before the next."""
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


def make_row(work: Work, clients: int, rounds: Sequence[dict[str, Round]]) -> Row:
    """The figures of one number of clients; seconds are per request, p50 and p99 those of waiting for an answer."""
    ratios = [both["ours"].per_s / both["peer"].per_s for both in rounds if both["peer"].per_s]
    requests = sum(len(both["ours"].latencies) for both in rounds)
    row: Row = {**asdict(work), "peer": "FastAPI over CrossEncoder", "clients": clients, "requests": requests}
    row |= {"ratio": round(statistics.median(ratios), 2), "ratio_quartiles": quartiles(ratios, digits=2)}
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
    """The section of docs/benchmarks.md."""
    columns = {"P": "{prefix}", "C": "{candidate}", "clients": "{clients}", "throughput, ratio": RATIO}
    figures = {"ours / its per s": "per_s", "p50, s": "p50_s", "p99, s": "p99_s", "lost": "lost"}
    columns |= {head: f"{{ours_{name}}} / {{peer_{name}}}" for head, name in figures.items()}
    about = f"{device('torch', 'sentence-transformers')}; {CANDIDATES} candidates; medians of {ROUNDS} rounds."
    return f"{about}\n\n{table(columns, rows)}"


def run_peer() -> None:
    """Serve the peer: FastAPI over a CrossEncoder, on a free port."""
    import uvicorn
    from fastapi import Body as JsonBody
    from fastapi import FastAPI
    from sentence_transformers import CrossEncoder

    encoder = CrossEncoder(locate(MINILM.base_model), num_labels=1, max_length=512)
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


if __name__ == "__main__":
    main()
