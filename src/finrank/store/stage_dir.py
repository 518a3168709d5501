"""Stage directories: streamed JSONL, rejects, a manifest, and publishing by one rename.

A stage directory holds `train.jsonl`, `dev.jsonl`, ... (those that exist), `rejects.jsonl` (every record left out, with
the reason) and `manifest.json` (stage, arguments, seed, versions, sha256 of inputs and outputs, counts). It is written
under another name and takes its place at the end (`replaced_folder.py`), so a stage that dies leaves nothing that looks
finished.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from finrank.console import warn
from finrank.errors import UserError, data_of_another_stage, missing_data
from finrank.records import Record
from finrank.store.json_lines import BadLine, encode, encode_reject, read_lines, read_record, read_value
from finrank.store.replaced_folder import MANIFEST, read_manifest, real_folder, refuse_other_data, replacing
from finrank.store.writing import writing

RecordT = TypeVar("RecordT", bound=Record)

# The order in which splits are listed everywhere; `selection` is the part of train kept for choosing checkpoints.
SPLITS = ("train", "selection", "dev", "test")
REJECTS = "rejects.jsonl"
_RECORDS_TO_LOOK_AT = 100  # of a file, to see of which stage it is; a damaged one among them costs nothing else
_warned_of: set[tuple[Path, str]] = set()  # files, and their sha256, that are not as their manifest lists them


def available_splits(directory: Path, expected: str | None = None) -> list[str]:
    """Names of the split files in a stage directory, in the order of `SPLITS`; UserError where there are none."""
    splits = [split for split in SPLITS if (directory / f"{split}.jsonl").is_file()]
    if not splits:
        raise missing_data(directory, expected)
    return splits


def split_files(directory: Path, wanted: Collection[str] = (), expected: str | None = None) -> dict[str, Path]:
    """The files of a stage directory by split; of the wanted splits alone, if any are named.

    Raises UserError, naming the splits that exist, when a wanted one is missing; else as `available_splits`.
    """
    splits = available_splits(directory, expected)
    for split in wanted:
        if split not in splits:
            raise UserError(f"{directory} has no {split}.jsonl; it has: {', '.join(splits)}")
    return {split: directory / f"{split}.jsonl" for split in splits if not wanted or split in wanted}


def refuse_earlier_stage(files: Iterable[Path], expected: str) -> None:
    """UserError, with what to run, for a file none of whose first records has what those of the folder `expected` have.

    `expected` is "finqa_candidates" (pools) or "finqa_with_rewards" (rewarded pools).
    """
    wanted = {"finqa_candidates": "candidates", "finqa_with_rewards": "rewards"}[expected]
    for path in files:
        found: set[str] = set()
        for line in islice(read_lines(path), _RECORDS_TO_LOOK_AT):
            record = read_value(line, "record")
            found.update(record if isinstance(record, dict) else ())
            if wanted in found:
                break
        else:
            if "question" in found:
                kind = "pools without rewards" if "candidates" in found else "questions without candidates"
                raise data_of_another_stage(path, kind, expected)


def read_records(path: Path, model: type[RecordT]) -> Iterator[RecordT | BadLine]:
    """Stream a JSONL file: a record, or why there is none, for each line that is not blank; UserError if missing."""
    if not path.is_file():
        raise missing_data(path.parent)
    return (read_record(line, model) for line in read_lines(path))


def load_records(path: Path, model: type[RecordT]) -> list[RecordT]:
    """The records of a JSONL file; bad lines are left out, with a warning that counts them and names the first.

    Raises UserError with file, line, id and reason where no line is right.
    """
    records: list[RecordT] = []
    bad: list[BadLine] = []
    for record in read_records(path, model):
        if isinstance(record, BadLine):
            bad.append(record)
        else:
            records.append(record)
    if bad:
        first = f"{path}:{bad[0].line} (id {bad[0].id}): {bad[0].reason}"
        if not records:
            raise UserError(f"no line of {path} can be used: {first}")
        warn(f"{len(bad)} of {len(bad) + len(records)} lines of {path} are left out: {first}")
    return records


def sha256(path: Path) -> str:
    """Hex sha256 of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checked_hashes(paths: Iterable[Path]) -> dict[Path, str]:
    """sha256 of each file that exists, with a warning of one that the manifest beside it lists otherwise."""
    hashes = {path: sha256(path) for path in paths if path.is_file()}
    manifests = {folder: read_manifest(folder) for folder in {path.parent for path in hashes}}
    for path, digest in hashes.items():
        listed = (manifests[path.parent] or {"outputs": {}})["outputs"].get(path.name, digest)
        if listed != digest and (path, digest) not in _warned_of:
            _warned_of.add((path, digest))
            warn(
                f"{path} is not the file that the {MANIFEST} beside it lists: it was changed, or copied in part; "
                "unless you changed it, make the folder again"
            )
    return hashes


def versions(*distributions: str) -> dict[str, str]:
    """Versions of Python, finrank and the named distributions, for manifests."""
    installed = {"python": platform.python_version()}
    for name in ("finrank", *distributions):
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def write_json(path: Path, value: Any) -> None:
    """Write a readable JSON file whole or not at all, with its folder where missing; NaN is refused (ValueError)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8 whole or not at all, with its folder where missing; UserError where it cannot be."""
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.unlink(missing_ok=True)  # of a killed process, or a link, which would lead to another file
            with partial.open("x", encoding="utf-8") as stream:
                stream.write(text)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


class StageWriter(Generic[RecordT]):
    """Writes one stage directory; use as a context manager.

    Leaving the block without an error writes the manifest and renames the directory into place, replacing an earlier
    result of a stage. After an error everything written is removed, and an earlier result stays.

    >>> with StageWriter(Path("out"), stage="prepare", arguments={}, seed=0, inputs=[]) as out:  # doctest: +SKIP
    ...     out.write("train", record)
    ...     out.reject("dev.json", 17, "V/2008/page_17.pdf-1", "no program")
    """

    def __init__(
        self, directory: Path, *, stage: str, arguments: dict[str, Any], seed: int, inputs: Iterable[Path]
    ) -> None:
        """`inputs` are the files read, whose sha256 goes into the manifest; `arguments` as the user gave them.

        Raises UserError when `directory` holds an input, or anything but the result of a stage: it would be replaced.
        """
        directory = real_folder(directory)
        self._inputs = list(inputs)
        if any(Path(os.path.realpath(path)).is_relative_to(directory) for path in self._inputs):
            raise UserError(
                f"--output_dir {directory} is the input folder, or holds it, and would be replaced: choose another"
            )
        refuse_other_data(directory)
        self.directory = directory
        self.rejected = 0
        self.counts: Counter[str] = Counter()
        self.extra: dict[str, Any] = {}
        self._header = {"stage": stage, "arguments": arguments, "seed": seed, "versions": versions()}
        self._files: dict[str, IO[bytes]] = {}

    def __enter__(self) -> StageWriter[RecordT]:
        self._running = self._run()
        self._running.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._running.__exit__(*raised)

    @contextmanager
    def _run(self) -> Iterator[None]:
        inputs = checked_hashes(self._inputs)
        with replacing(self.directory) as self._partial:
            with ExitStack() as self._streams:
                self._open(REJECTS)
                yield
            names = Counter(path.name for path in self._inputs)
            manifest = {
                **self._header,
                # By their names, those of the same name by their paths.
                "inputs": {
                    path.name if names[path.name] == 1 else str(path): inputs.get(path) or sha256(path)
                    for path in self._inputs
                },
                "outputs": {path.name: sha256(path) for path in sorted(self._partial.glob("*.jsonl"))},
                "counts": {split: self.counts[split] for split in SPLITS if split in self.counts},
                "rejected": self.rejected,
                **self.extra,
            }
            write_json(self._partial / MANIFEST, manifest)

    def write(self, split: str, record: RecordT) -> None:
        """Append a record to `{split}.jsonl`."""
        self.write_encoded(split, encode(record))

    def write_encoded(self, split: str, line: bytes) -> None:
        """Append a line that `encode` has made of a record, perhaps in another process."""
        self._open(f"{split}.jsonl").write(line)
        self.counts[split] += 1

    def reject(self, file: str, line: int | None, identifier: str | None, reason: str) -> None:
        """Append a left-out record to `rejects.jsonl`: the file and line (or list index) it came from, and why."""
        self._open(REJECTS).write(encode_reject(BadLine(file, line, identifier, reason)))
        self.rejected += 1

    def _open(self, name: str) -> IO[bytes]:
        if name not in self._files:
            stream = (self._partial / name).open("wb", buffering=1 << 18)
            self._files[name] = self._streams.enter_context(stream)
        return self._files[name]
