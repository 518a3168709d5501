"""Bytes on disk: stage directories, JSON lines, large JSON lists, files that survive a kill. Nothing of finance."""

from finrank.errors import UserError
from finrank.store.json_lines import BadLine, describe
from finrank.store.stage_dir import (
    MANIFEST,
    REJECTS,
    SPLITS,
    StageWriter,
    available_splits,
    load_records,
    publish,
    read_records,
    sha256,
    split_files,
    versions,
    write_json,
)

__all__ = [
    "MANIFEST",
    "REJECTS",
    "SPLITS",
    "BadLine",
    "StageWriter",
    "UserError",
    "available_splits",
    "describe",
    "load_records",
    "publish",
    "read_records",
    "sha256",
    "split_files",
    "versions",
    "write_json",
]
