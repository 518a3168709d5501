"""HTTP endpoints: request JSON in, response JSON out.

A request passes the guard (bytes, key, time), the limits (counts), its schema (types) and the ranker (values).
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.security import HTTPBearer
from jinja2 import Environment, PackageLoader
from starlette.staticfiles import StaticFiles

from finrank.errors import UserError
from finrank.page.places import PagePlaces, Places
from finrank.page.query_text import Query, parse_query
from finrank.ranker.choosing.answers import by_relevance
from finrank.serving import schemas
from finrank.serving.batching import Batcher, Scores
from finrank.serving.error_responses import ErrorResponses, ServiceError, add_error_handlers
from finrank.serving.guard import Guard, Traffic
from finrank.serving.limits import LimitedRoute, Limits, body_size
from finrank.serving.preparing import Preparing, WhileWanted
from finrank.serving.prometheus import add_metrics

if TYPE_CHECKING:
    from finrank.ranker.ranker import Prepared, Ranker, Ranking

_DESCRIPTION = (
    "Ranks candidate answers to a question about a page of a financial report: programs or values go in, the distinct "
    "answers come back with their probabilities, the most probable first. /v1/rank is finrank's own endpoint; the "
    "rerank endpoints have the shapes of Cohere, Jina and vLLM."
)
_PAGE = Path(__file__).parent / "page"
# By then no client waits for anything, unless it takes longer than requests may.
_SECONDS_TO_STOP = 5.0
# Cells and sentences of all answers of a response together.
_MOST_EVIDENCE = 5_000
_Size = Annotated[int, Depends(body_size)]


class Service:
    """A model behind its limits, shared by the endpoints."""

    def __init__(self, ranker: Ranker, name: str, limits: Limits) -> None:
        self.ranker, self.name, self.limits = ranker, name, limits
        self.traffic = Traffic()
        self.preparing = Preparing()
        self.batcher = Batcher(ranker.score, limits.batch_tokens)

    async def rank(self, request: Mapping[str, Any], size: int) -> tuple[Prepared, Scores, Ranking]:
        """Prepare, score and rank one request, whose body had `size` bytes.

        Raises ServiceError for a request that cannot be ranked or is over a limit.
        """
        try:
            prepared = await self.preparing.run(
                size, lambda wanted: self.ranker.prepare({**request, "candidates": wanted(request["candidates"])})
            )
        except UserError as error:
            raise ServiceError(400, str(error)) from error
        if prepared.tokens > self.limits.tokens:
            raise self.limits.exceeded("tokens", count=prepared.tokens)
        scores = await self.batcher.score(prepared)
        return prepared, scores, self.ranker.ranking(prepared, scores)

    def start(self) -> None:
        """Start the threads."""
        self.preparing.start()
        self.batcher.start()

    def stop(self, seconds: float) -> None:
        """Finish what was accepted and end the threads; after `seconds` the rest is abandoned."""
        until = time.monotonic() + seconds
        self.preparing.stop(seconds)
        self.batcher.stop(max(0.0, until - time.monotonic()))


def make_app(ranker: Ranker, name: str, limits: Limits | None = None, key: str | None = None) -> FastAPI:
    """The service as an ASGI app; responses call the model `name`, and clients must send `key` (None: nothing).

    Its threads run between startup and shutdown (`lifespan`). `app.state.service` is the Service,
    `app.state.metrics` where its metrics are.
    """
    service = Service(ranker, name, limits or Limits())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await asyncio.to_thread(service.stop, 0 if service.traffic.abandoned else _SECONDS_TO_STOP)

    app = FastAPI(title="finrank", lifespan=lifespan, docs_url=None, redoc_url=None, description=_DESCRIPTION)
    app.state.service = service
    app.add_middleware(Guard, limits=service.limits, key=key, traffic=service.traffic)
    add_error_handlers(app)
    # Only describes the key in /openapi.json; the guard checks it.
    bearer = HTTPBearer(auto_error=False, description="the server's FINRANK_API_KEY")
    dependencies = [] if key is None else [Depends(bearer)]
    router = APIRouter(route_class=LimitedRoute, dependencies=dependencies)
    _add_ranking(router, service)
    for path in ("/v1/rerank", "/rerank", "/v2/rerank"):
        _add_reranking(router, service, path)
    app.include_router(router)
    _add_health(app, service)
    _add_pages(app)
    app.state.metrics = add_metrics(app, service.traffic, service.batcher)
    return app


def _add_ranking(router: APIRouter, service: Service) -> None:
    @router.post("/v1/rank", responses=ErrorResponses)
    async def rank(request: schemas.RankRequest, size: _Size) -> schemas.RankResponse:
        """Rank the candidate answers to a question about a report page: distinct answers, most probable first."""
        asked = request.model_dump(exclude={"id"}, exclude_none=True)
        prepared, _, ranking = await service.rank(asked, size)
        answers, left_out = await service.preparing.run(size, lambda wanted: _with_evidence(ranking, request, wanted))
        confidence = service.ranker.confidence
        threshold = None if confidence is None else confidence.threshold
        return schemas.RankResponse(
            id=request.id,
            answers=answers,
            abstain=ranking.abstain,
            calibrated=confidence is not None,
            threshold=None if threshold is None else threshold.value,
            model=service.name,
            usage=schemas.Usage(prompt_tokens=prepared.tokens, total_tokens=prepared.tokens),
            warnings=[*service.ranker.unlike_fitted(prepared), *left_out],
        )


def _with_evidence(
    ranking: Ranking, request: schemas.RankRequest, while_wanted: WhileWanted
) -> tuple[list[schemas.AnswerBody], list[str]]:
    """The answers with their evidence, and a sentence where some have none because the response would be too long."""
    page = PagePlaces(request.table, request.text)
    answers: list[schemas.AnswerBody] = []
    left, left_out = _MOST_EVIDENCE, 0
    for answer in while_wanted(ranking):
        places = page.of(answer.programs[0] if answer.programs else None)
        left -= len(places.cells) + len(places.sentences)
        if left < 0:
            left_out += 1
            places, left = Places([], []), 0
        answers.append(schemas.AnswerBody(**vars(answer), evidence=places))
    said = f"evidence: {left_out} answers without, because all have more than {_MOST_EVIDENCE} cells and sentences"
    return answers, [said] if left_out else []


def _add_reranking(router: APIRouter, service: Service, path: str) -> None:
    version: Literal["1", "2"] = "2" if path.startswith("/v2") else "1"

    @router.post(path, responses=ErrorResponses, response_model_exclude_none=True)
    async def rerank(request: schemas.RerankRequest, size: _Size) -> schemas.RerankResponse:
        """Rerank documents, each a candidate answer, with the shapes of vLLM, Cohere and Jina: one result each."""
        query = await service.preparing.run(size, lambda _: _read_query(request.query, service.limits))
        page = {"question": query.question, "table": query.table, "text": query.text}
        prepared, scores, ranking = await service.rank({**page, "candidates": request.candidates}, size)
        # Cohere's second version leaves documents out of its results; other servers include them by default.
        wanted = version == "1" if request.return_documents is None else request.return_documents
        return schemas.RerankResponse(
            id=f"rerank-{uuid.uuid4().hex}",
            model=service.name,
            results=_rerank_results(request, ranking, scores, wanted),
            usage=schemas.Usage(prompt_tokens=prepared.tokens, total_tokens=prepared.tokens),
            meta=schemas.Meta(
                api_version=schemas.ApiVersion(version=version),
                tokens=schemas.Tokens(input_tokens=prepared.tokens),
                warnings=[*query.warnings, *service.ranker.unlike_fitted(prepared), *_without_value(ranking)] or None,
            ),
        )


def _read_query(query: str, limits: Limits) -> Query:
    try:
        return parse_query(query, limits.check_parts)
    except UserError as error:
        raise ServiceError(400, str(error), "query") from error


def _without_value(ranking: Ranking) -> list[str]:
    """A sentence for each document that is last because it has no value."""
    reasons = {index: answer.error for answer in ranking if answer.score is None for index in answer.indices}
    return [f"document {index}: {reason}" for index, reason in sorted(reasons.items())]


def _rerank_results(
    request: schemas.RerankRequest, ranking: Ranking, scores: Scores, with_documents: bool
) -> list[schemas.RerankResult]:
    """The `top_n` results of a request, the most relevant first.

    Relevance is the probability of the document's answer, so that documents of equal answers share it and the first
    result has the answer that `/v1/rank` puts first.
    """
    texts = request.texts if with_documents else []
    return [
        schemas.RerankResult(
            index=index,
            relevance_score=answer.probability,
            document=schemas.Document(text=texts[index]) if with_documents else None,
        )
        for index, answer in by_relevance(ranking, scores)[: request.top_n or None]
    ]


def _add_health(app: FastAPI, service: Service) -> None:
    @app.head("/health", include_in_schema=False)
    @app.get("/health", response_model=schemas.Health, responses={503: {"model": schemas.Health}})
    async def health() -> JSONResponse:
        """Whether the server accepts requests; needs no key."""
        traffic, batcher = service.traffic, service.batcher
        counts = {"waiting": traffic.waiting, "requests": batcher.requests, "batches": batcher.batches}
        state = {"status": "draining" if traffic.draining else "ok", "model": service.name, **counts}
        return JSONResponse(state, 503 if traffic.draining else 200, {"cache-control": "no-store"})


def _add_pages(app: FastAPI) -> None:
    """The page at /, its files next to it, and /docs; they load nothing from elsewhere."""
    files = StaticFiles(directory=_PAGE)

    async def send(request: Request) -> Response:
        return await files.get_response(request.scope["path"].lstrip("/") or "index.html", request.scope)

    # A mounted folder in place of an endpoint per file would answer 404 to a wrong method.
    for path in ["/", *sorted(f"/{path.name}" for path in _PAGE.iterdir() if path.is_file())]:
        app.add_api_route(path, send, methods=["GET", "HEAD"], include_in_schema=False)

    # FastAPI's own pages for this load their scripts from another server.
    template = Environment(loader=PackageLoader("finrank.serving"), autoescape=True).get_template("docs.html")

    @app.head("/docs", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        openapi = app.openapi()
        schemas = openapi["components"]["schemas"].items()
        written = {name: json.dumps(schema, indent=2, ensure_ascii=False) for name, schema in schemas}
        return HTMLResponse(template.render(openapi=openapi, schemas=written))
