"""Requests and responses of the endpoints; the rerank ones have the shapes of vLLM, Cohere and Jina."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from finrank.page.places import Places
from finrank.ranker.requests import cell_text
from finrank.records import Answer, Origin


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "expected a text that is not blank")
    return text


def _is_unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("surrogate", "half a surrogate pair is not text") from None
    return text


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
# Lists stop at their first fault: reporting a body full of faults would cost more than a good request.
Texts = Annotated[list[str], Field(fail_fast=True)]
_Cell = Annotated[str, BeforeValidator(cell_text, json_schema_input_type=str | int | float | None)]
Row = Annotated[list[_Cell], Field(fail_fast=True)]

_RANK_EXAMPLE: JsonDict = {
    "question": "what is the change in revenue ?",
    "table": [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"]],
    "text": ["revenue grew in 2009 ."],
    "candidates": ["subtract(5829, 5735)", {"answer": 5829}],
}
_RERANK_EXAMPLE: JsonDict = {
    "model": "finrank",
    "query": "question: what is the change in revenue ?\ntable:\n | 2009 | 2008\nrevenue | $ 5829 | $ 5735",
    "documents": ["subtract(5829, 5735)", "5829", "subtract(5735, 5829) = -94"],
    "top_n": 2,
}


class CandidateBody(BaseModel):
    """A candidate with its parts by name; at least one of them."""

    model_config = ConfigDict(extra="forbid")

    program: str | None = Field(default=None, description="FinQA program: subtract(5829, 5735), divide(#0, 5735)")
    answer: Number | str | None = Field(default=None, description="a number, a number as text (12.5%), yes or no")
    origin: Origin | None = Field(
        default=None,
        description="where it comes from: calibrated models warn of pools with other origins than those they were "
        "calibrated on; default: imported",
    )
    model: str | None = Field(default=None, description="the system that said it, named again with its answer")
    log_probability: Number | None = Field(default=None, description="what that system gives it, a natural logarithm")


class RankRequest(BaseModel):
    """A question, its page and its candidates."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _RANK_EXAMPLE})

    question: Annotated[str, Field(min_length=1), AfterValidator(_not_blank)]
    table: list[Row] = Field(
        default=[],
        fail_fast=True,
        description="rows of cells, each a text, a number or null; row 0 is the header, column 0 the labels",
    )
    text: Texts = Field(default=[], description="sentences of the page")
    candidates: list[CandidateBody | str | float | Any] = Field(
        min_length=1,
        description="each a program, a value (94, 12.5%, yes), both in any wrapping, or an object with program, answer "
        "or both; one that cannot be read is ranked last, with the reason",
    )
    id: Annotated[str, AfterValidator(_is_unicode)] | None = Field(default=None, description="returned unchanged")


class AnswerBody(BaseModel):
    """One distinct answer with all candidates that have it."""

    answer: Answer | None = Field(description="null for a candidate without a value, see error")
    probability: float = Field(description="share of the answers' total, 1; calibrated where the model is")
    score: float | None = Field(
        description="the best candidate's, in logits; comparable within this request only; null without a value"
    )
    index: int = Field(description="the best candidate's index in the request")
    indices: list[int] = Field(description="indices of all its candidates")
    programs: list[str] = Field(description="programs that compute it, the best first")
    error: str | None = Field(description="why the best candidate's program has no value")
    models: list[str] = Field(
        default=[],
        exclude_if=lambda models: not models,
        description="systems that gave it, where candidates name theirs, the best candidate's first",
    )
    evidence: Places = Field(
        description="where the page has the numbers of its best program: cells [row, column] and indices into text, "
        "the first 100 of each"
    )


class Usage(BaseModel):
    """Tokens that the model read; the prefix counts once."""

    prompt_tokens: int
    total_tokens: int


class RankResponse(BaseModel):
    """Distinct answers, most probable first."""

    id: str | None
    answers: list[AnswerBody]
    abstain: bool = Field(description="true if the first answer is less probable than the threshold")
    calibrated: bool = Field(description="true if the probabilities were calibrated")
    threshold: float | None = Field(
        description="below this probability no answer should be returned; null if none was fitted"
    )
    model: str
    usage: Usage
    warnings: list[str] = Field(description="why the probabilities may be off for this request; evidence left out")


class Document(BaseModel):
    """A document as an object; other keys are ignored."""

    text: str


class RerankRequest(BaseModel):
    """A rerank request; fields that other servers know and this one does not are ignored."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"example": _RERANK_EXAMPLE})

    model: str | None = Field(default=None, description="any name: this server has one model, named in the response")
    query: str = Field(min_length=1, description="the question alone, or with table: and text: sections")
    documents: list[Document | str | Any] = Field(
        min_length=1, description="candidates: a program, a value (94, 12.5%, yes), or both in any wrapping"
    )
    top_n: int | None = Field(default=None, ge=0, strict=True, description="number of results; null or 0: all")
    return_documents: bool | None = Field(
        default=None, strict=True, description="whether results include their document; default: not on /v2/rerank"
    )

    @property
    def texts(self) -> list[str]:
        """The documents as texts that a response can hold, those of other types as JSON."""
        texts = [text if isinstance(text, str) else json.dumps(text) for text in self.candidates]
        return [text.encode("utf-8", "backslashreplace").decode() for text in texts]

    @property
    def candidates(self) -> list[Any]:
        """The documents as candidates: their texts, or values of other types as they are."""
        return [document.text if isinstance(document, Document) else document for document in self.documents]


class RerankResult(BaseModel):
    """One document."""

    index: int = Field(description="its index in the request")
    relevance_score: float = Field(
        description="probability of the document's answer, which documents of equal answers share; 0 without a value"
    )
    document: Document | None = None


class Tokens(BaseModel):
    """Cohere's name for the usage."""

    input_tokens: int


class ApiVersion(BaseModel):
    """The version of Cohere's API that the shape follows."""

    version: Literal["1", "2"]


class Meta(BaseModel):
    """Fields that Cohere's clients read besides the results."""

    api_version: ApiVersion
    tokens: Tokens
    warnings: list[str] | None = None


class RerankResponse(BaseModel):
    """Results, most relevant first."""

    id: str
    model: str
    results: list[RerankResult]
    usage: Usage
    meta: Meta


class Health(BaseModel):
    """State of the server; 503 while it shuts down."""

    status: Literal["ok", "draining"]
    model: str
    waiting: int = Field(description="requests in the service now")
    requests: int = Field(description="requests scored since the start")
    batches: int = Field(description="batches in which they were scored")


class ErrorDetail(BaseModel):
    """The fault, what was expected, and what to do."""

    type: str
    message: str
    field: str | None


class ErrorBody(BaseModel):
    """Body of every 4xx, 500, 503 and 504."""

    error: ErrorDetail
