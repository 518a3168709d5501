"""Models on the Hugging Face hub: fetching by id, uploading, and messages with a remedy when either fails."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi, errors, snapshot_download

from finrank.errors import UserError
from finrank.ranker.choosing.chooser import CHOOSER
from finrank.ranker.choosing.confidence import CONFIDENCE
from finrank.ranker.saving import ADAPTER, CONFIG, HEAD, OWN_BASE, TOKENIZER

CARD = "README.md"
_OF_BASE = [f"{Path(OWN_BASE).name}/{name}" for name in ("config.json", "*.safetensors", "*.safetensors.index.json")]
# Nothing else is fetched, whatever a repository holds.
_FILES = (CONFIG, *ADAPTER, HEAD, *TOKENIZER, CONFIDENCE, CHOOSER, CARD, *_OF_BASE)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_TOKEN = "set a token with the right to it: export HF_TOKEN=... (or hf auth login)"
_FAILURES = (errors.HfHubHTTPError, errors.HFValidationError, OSError)


def locate_model(name: str | Path, *, revision: str | None = None, token: str | bool | None = None) -> Path:
    """The local folder of a model: the folder of that name, else the hub's model with that id, fetched or cached.

    Raises UserError when there is neither.
    """
    if Path(name).exists() or not _HUB_ID.fullmatch(str(name)):
        if revision is not None:
            raise UserError(f"{name} is not a hub id, and only the hub has revisions: leave out revision {revision}")
        return Path(name)
    try:
        return Path(snapshot_download(str(name), revision=revision, token=token, allow_patterns=list(_FILES)))
    except _FAILURES as error:
        reason, remedy = _explained(error, revision)
        raise UserError(
            f"{name} is not a folder here, and the hub cannot provide it: {reason}\n"
            "Do one of these:\n"
            "    name a run, a stage directory or a model folder: outputs/run_001\n"
            f"    {remedy}"
        ) from error


def upload(
    folder: Path, repo_id: str, private: bool | None, message: str, revision: str | None, token: str | bool | None
) -> CommitInfo:
    """Upload a model folder as one commit, making the repository where there is none; UserError when it is refused."""
    api = HfApi(token=token)
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        return api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=message,
            revision=revision,
            delete_patterns=[CONFIDENCE, CHOOSER],  # one of an earlier model would be refused with these weights
        )
    except _FAILURES as error:
        raise UserError(f"{repo_id} cannot be uploaded: {_explained(error)[0]}\n    {_TOKEN}") from error


def _explained(error: Exception, revision: str | None = None) -> tuple[str, str]:
    ask = f"if it is a hub id, {_TOKEN}"
    if isinstance(error, errors.GatedRepoError):
        return "its licence has to be accepted on its page first", ask
    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such revision", f"give another revision than {revision}: a branch, a tag or a commit"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the hub has no such model, or it is private", ask
    if isinstance(error, errors.LocalEntryNotFoundError):
        reason = "the hub cannot be reached, and nothing was fetched before"
        return reason, "connect to the network once, or copy the model folder here"
    return (str(error).strip() or type(error).__name__).splitlines()[0], ask
