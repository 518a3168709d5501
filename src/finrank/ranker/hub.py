"""Models on the Hugging Face hub: fetched by their id, uploaded, and what to do when either fails."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from finrank.console import warn
from finrank.errors import UserError
from finrank.ranker.confidence import CONFIDENCE
from finrank.ranker.saving import ADAPTER, CONFIG, HEAD, TOKENIZER

CARD = "README.md"
# Nothing else is fetched, whatever a repository holds.
_FILES = (CONFIG, *ADAPTER, HEAD, *TOKENIZER, CONFIDENCE, CARD)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_TOKEN = "set a token with the right to it: export HF_TOKEN=... (or hf auth login)"


def locate_model(name: str | Path, *, revision: str | None = None, token: str | bool | None = None) -> Path:
    """The local folder of a model: the folder of that name, else the files of the hub's model with that id.

    What was fetched once is taken from the cache when there is no network. Raises UserError when there is neither
    folder nor model.
    """
    if Path(name).exists() or not _HUB_ID.fullmatch(str(name)):
        if revision is not None:
            raise UserError(f"{name} is not a hub id, and only the hub has revisions: leave out revision {revision}")
        return Path(name)
    try:
        return Path(snapshot_download(str(name), revision=revision, token=token, allow_patterns=list(_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        reason, remedy = _explained(error, revision)
        raise UserError(
            f"There is no folder {name} here, and the hub cannot provide it: {reason}\n"
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
            # One that an earlier model left there would be refused with these weights.
            delete_patterns=[CONFIDENCE],
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(f"{repo_id} cannot be uploaded: {_explained(error)[0]}\n    {_TOKEN}") from error


def copy_card(model_dir: Path, directory: Path) -> None:
    """Copy the model card, where there is one and the other folder has none."""
    if (model_dir / CARD).is_file() and not (directory / CARD).exists():
        shutil.copyfile(model_dir / CARD, directory / CARD)


def warn_of_local_base(base_model: str) -> None:
    """Warn that others will need the base weights, where they are a folder of this machine."""
    if Path(base_model).exists():
        warn(
            f"the base weights are a local folder ({base_model}) and stay here: others load the model with "
            "Ranker.from_pretrained(..., base_model=their copy)"
        )


def _explained(error: Exception, revision: str | None = None) -> tuple[str, str]:
    """Why the hub failed, and what to do about it."""
    ask = f"if it is a hub id, {_TOKEN}"
    if isinstance(error, GatedRepoError):
        return "its licence has to be accepted on its page first", ask
    if isinstance(error, RevisionNotFoundError):
        return "it has no such revision", f"give another revision than {revision}: a branch, a tag or a commit"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such model, or it is private", ask
    if isinstance(error, LocalEntryNotFoundError):
        remedy = "connect to the network once, or copy the model folder here"
        return "the hub cannot be reached, and nothing was fetched before", remedy
    return (str(error).strip() or type(error).__name__).splitlines()[0], ask
