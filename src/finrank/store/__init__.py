"""Bytes on disk: stage directories, JSON lines, large JSON lists, files that survive a kill. Nothing of finance.

A name imported `as` itself is exported.
"""

from finrank.errors import UserError as UserError
from finrank.store.json_lines import BadLine as BadLine
from finrank.store.json_lines import describe as describe
from finrank.store.json_lines import read_json as read_json
from finrank.store.replaced_folder import MANIFEST as MANIFEST
from finrank.store.replaced_folder import replacing as replacing
from finrank.store.stage_dir import REJECTS as REJECTS
from finrank.store.stage_dir import SPLITS as SPLITS
from finrank.store.stage_dir import StageWriter as StageWriter
from finrank.store.stage_dir import available_splits as available_splits
from finrank.store.stage_dir import checked_hashes as checked_hashes
from finrank.store.stage_dir import load_records as load_records
from finrank.store.stage_dir import read_records as read_records
from finrank.store.stage_dir import refuse_earlier_stage as refuse_earlier_stage
from finrank.store.stage_dir import sha256 as sha256
from finrank.store.stage_dir import split_files as split_files
from finrank.store.stage_dir import versions as versions
from finrank.store.stage_dir import write_json as write_json
from finrank.store.stage_dir import write_text as write_text
