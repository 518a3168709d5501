"""`confidence.json` in a model folder: calibrates its probabilities; written by evaluation, read by `Ranker`.

It holds the temperature of the probabilities, the threshold below which it is better to abstain, and the kind of pools
both were fitted on: they say nothing about other pools. A folder without it is complete; its probabilities are then
those of the plain softmax.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from finrank.errors import UserError
from finrank.ranker.saving import HEAD, find_model
from finrank.records import Candidate
from finrank.store import describe, read_json, sha256, write_json

CONFIDENCE = "confidence.json"
# Pools this many times smaller or larger than any that it was fitted on count as different.
_FAR_OFF = 2
_REMEDY = "fit it again with finrank evaluate, or delete the file to do without calibration"


class Threshold(BaseModel):
    """The probability at and above which answers are right in the wanted share of questions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wanted_accuracy: float = Field(gt=0, lt=1)
    value: float = Field(ge=0, le=1, description="abstain where the top answer's probability is below this")
    coverage: float = Field(ge=0, le=1, description="share of the pools it was fitted on that were answered")
    accuracy: float = Field(ge=0, le=1, description="of the answers above the threshold")
    lower_bound: float = Field(ge=0, le=1, description="of that accuracy, valid for the search (5 % in all)")


class Confidence(BaseModel):
    """Temperature and threshold of a model's probabilities, and the pools they were fitted on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(ge=1e-3, le=1e3)
    threshold: Threshold | None = Field(default=None, description="None: the wanted accuracy was out of reach")
    n: int = Field(gt=0, description="pools it was fitted on")
    pool_sizes: dict[int, int] = Field(min_length=1, description="number of candidates -> pools")
    origins: dict[str, int] = Field(min_length=1, description="origin -> candidates")
    data_hashes: dict[str, str] = Field(default_factory=dict, description="file of the data -> sha256")
    score_head: str = Field(description="sha256 of the score head it belongs to")


def save_confidence(model_dir: Path, confidence: Confidence) -> Path:
    """Write a confidence into the model folder (of a run, too) for its score head; returns the path of the file."""
    model_dir = find_model(model_dir)
    fitted = confidence.model_copy(update={"score_head": sha256(model_dir / HEAD)})
    write_json(model_dir / CONFIDENCE, fitted.model_dump(mode="json"))
    return model_dir / CONFIDENCE


def load_confidence(model_dir: Path) -> Confidence | None:
    """The confidence in the model folder (of a run, too); None where none was fitted.

    Raises UserError for a damaged file, and for one of another model, whose probabilities would be silently wrong.
    """
    model_dir = find_model(model_dir)
    path = model_dir / CONFIDENCE
    if not path.exists():
        return None
    try:
        confidence = Confidence.model_validate(read_json(path))
    except (OSError, ValueError) as error:
        reason = describe(error) if isinstance(error, ValidationError) else error
        raise UserError(f"{path} is damaged ({reason}): {_REMEDY}") from error
    if confidence.score_head != sha256(model_dir / HEAD):
        raise UserError(f"{path} was fitted for other weights than those of its folder: {_REMEDY}")
    return confidence


def unlike_fitted(confidence: Confidence, pools: Iterable[Sequence[Candidate]]) -> dict[str, str]:
    """A sentence per kind of difference, "size" or "origin", between these pools and those it was fitted on."""
    pools = list(pools)
    differences = {}
    smallest, largest = min(confidence.pool_sizes), max(confidence.pool_sizes)
    far = [size for size in map(len, pools) if size * _FAR_OFF < smallest or size > largest * _FAR_OFF]
    if far:
        fitted = str(smallest) if smallest == largest else f"{smallest} to {largest}"
        differences["size"] = (
            f"probabilities and threshold were fitted on pools of {fitted} candidates, here is one of {far[0]}: "
            "they may be off; fit them again with finrank evaluate on pools of this size"
        )
    unknown = sorted({one.origin for candidates in pools for one in candidates} - set(confidence.origins))
    if unknown:
        differences["origin"] = (
            f"probabilities and threshold were fitted on {' and '.join(sorted(confidence.origins))} candidates, here "
            f"are {' and '.join(unknown)} ones: they may be off; fit them again with finrank evaluate on such pools"
        )
    return differences
