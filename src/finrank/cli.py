"""The `finrank` command: the table of commands, how errors are printed, and exit codes.

The numbered scripts at the repository's root call `run_script` and take the same flags.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

import typer

from finrank.commands.audit import audit
from finrank.commands.candidates import candidates
from finrank.commands.check import check
from finrank.commands.doctor import doctor
from finrank.commands.download import download
from finrank.commands.evaluate import evaluate
from finrank.commands.export import export
from finrank.commands.fit import fit
from finrank.commands.generation import generation
from finrank.commands.import_predictions import import_predictions
from finrank.commands.ppo import ppo
from finrank.commands.prepare import prepare
from finrank.commands.propose import propose
from finrank.commands.proposer import proposer
from finrank.commands.rank import rank
from finrank.commands.report import report
from finrank.commands.rewards import rewards
from finrank.commands.sample import sample
from finrank.commands.sample_data import sample_data
from finrank.commands.score_predictions import score_predictions
from finrank.commands.serve import serve
from finrank.commands.sft import sft
from finrank.commands.solve import solve
from finrank.console import visible
from finrank.errors import UserError, is_out_of_memory
from finrank.store.writing import remedy

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Choose the right answer to a question about a financial report from a pool of candidates.",
)
# In the order of `finrank --help`.
COMMANDS: dict[str, Callable[..., object]] = {
    "check": check,
    "prepare": prepare,
    "candidates": candidates,
    "rewards": rewards,
    "sft": sft,
    "ppo": ppo,
    "generation": generation,
    "proposer": proposer,
    "propose": propose,
    "sample": sample,
    "evaluate": evaluate,
    "fit": fit,
    "report": report,
    "rank": rank,
    "solve": solve,
    "serve": serve,
    "export": export,
    "import": import_predictions,
    "score-predictions": score_predictions,
    "audit": audit,
    "sample-data": sample_data,
    "download": download,
    "doctor": doctor,
}
_OUT_OF_MEMORY = (
    "out of memory: close other programs, give fewer --workers, or raise the limit (ulimit -v, that of a container), "
    "and repeat the command; what was finished is kept"
)
for name, command in COMMANDS.items():
    command.__annotations__.pop("return", None)  # Typer would evaluate it, and types of results are heavy to import
    app.command(name)(command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and exit with its code: 0, or 2 after a `UserError`, whose text alone is printed.

    What the system refuses (a full disk, a folder without permission, more memory) is printed likewise.
    """
    # A terminated command must clean up as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app(args=arguments)
    except UserError as error:
        _fail(str(error))
    except (MemoryError, RuntimeError, OSError) as error:
        if is_out_of_memory(error):
            _fail(_OUT_OF_MEMORY)
        if not isinstance(error, OSError):
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        _fail(f"{where}{error.strerror or error}{remedy(error.errno)}")
    sys.exit(0)


def _fail(message: str) -> NoReturn:
    """Print the error and exit with 2; of several processes that train together only the first to fail prints."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from finrank.training.processes import is_first_to_fail

        if not is_first_to_fail():
            time.sleep(5)  # the first ends meanwhile, and with it the launcher all others
            sys.exit(2)
    print(f"error: {visible(message)}", file=sys.stderr)
    sys.exit(2)


def run_script(command: str) -> NoReturn:
    """Run a command with the arguments of a numbered script."""
    main([command, *sys.argv[1:]])
