"""The `check` command: read every raw example and report problems before anything is built on the data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Column, Table

from finrank.commands.options import RAW
from finrank.console import Reading, console, say, track, warn
from finrank.errors import UserError
from finrank.records import Question
from finrank.sources.findings import RawReport
from finrank.sources.finqa import draw_questions, finqa_files, read_examples
from finrank.store import BadLine, describe, write_json

if TYPE_CHECKING:
    from finrank.ranker.settings import RankerSettings

_DRAWN = 500  # questions per split in which operands are followed
_TOO_MANY_LOSING = 0.2  # of the questions; more is a warning


def check(
    input_dir: Annotated[Path, typer.Option("--input_dir", help="Folder with train.json, dev.json, test.json.")] = RAW,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report as JSON to this file.")] = None,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 with warnings too.")] = False,
    notes: Annotated[bool, typer.Option("--notes", help="Show the harmless notes too.")] = False,
    config: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            help="A model config, by name or file: report which gold operands reach that model; repeatable (default: "
            "all that ship with finrank; none: skip it).",
        ),
    ] = None,
) -> dict[str, Any]:
    """Stage 00: report problems of the raw data.

    Reads every example, prints the findings with what to do about each, and changes nothing. Exit code 1 when there
    are errors (with --strict: or warnings), else 0; notes never fail.

    \b
    Example:
      finrank check --input_dir datasets/finqa_raw --json check.json
    """
    from finrank.training.config import DOCUMENTED, SHIPPED

    shipped = [DOCUMENTED / path.name for path in sorted(SHIPPED.glob("*.yaml"))]
    configs = shipped if config is None else [Path(name) for name in config if name != "none"]
    files = finqa_files(input_dir)
    report = RawReport(files)
    for split, path in files.items():
        reading = Reading.of(path)
        try:
            for example in track(read_examples(path, reading), path.name, reading=reading):
                report.add(split, example)
        except UserError as error:  # not JSON at all
            report.add(split, BadLine(path.name, 0, None, str(error)))
    report.finish()
    result: dict[str, Any] = {"input_dir": str(input_dir), **report.as_json()}
    survival: list[dict[str, Any]] = []
    try:
        models = {path: _read_config(path) for path in configs}
        with_examples = [split for split in files if configs and report.splits[split].examples]
        drawn = {split: draw_questions(path, _DRAWN) if split in with_examples else [] for split, path in files.items()}
        survival += [_survival(path, model, drawn) for path, model in models.items()]
        result["survival"] = survival
        if json_path is not None:
            write_json(json_path, result)
    finally:
        _show(result, notes)
        _show_survival(survival)
    warned = result["warnings"] or any(row["losing_splits"] for row in result["survival"])
    if result["errors"] or (strict and warned):
        raise typer.Exit(1)
    return result


def _show(result: dict[str, Any], notes: bool) -> None:
    """Print counts per split, then the findings, worst first."""
    sizes = Table("split", "examples", "pages", "with program", "with gold_inds", title=result["input_dir"])
    for split, size in result["splits"].items():
        sizes.add_row(split, *(str(count) for count in size.values()))
    console.print(sizes)
    findings = Table("finding", "count", Column("such as", overflow="fold"), "what to do", show_lines=True)
    found = [finding for finding in result["findings"] if finding["count"]]
    for severity, shown_ids in {"error": 3, "warning": 3, "note": 1 if notes else 0}.items():
        for finding in (finding for finding in found if shown_ids and finding["severity"] == severity):
            named = zip(finding["ids"][:shown_ids], finding["reasons"], strict=False)
            such_as = "\n".join(f"{identifier}: {reason}".removesuffix(": ") for identifier, reason in named)
            label = f"{severity}: {finding['name'].replace('_', ' ')}"
            findings.add_row(label, str(finding["count"]), such_as, finding["what_to_do"])
    if findings.row_count:
        console.print(findings)
    hidden = 0 if notes else sum(finding["severity"] == "note" for finding in found)
    how = f" of {hidden} kinds, all harmless: --notes shows them" if hidden else ""
    say(f"{result['errors']} errors, {result['warnings']} warnings, {result['notes']} notes{how}")


def _read_config(path: Path) -> RankerSettings:
    """Base model and prompt of a config; training checks the other keys when it starts."""
    from finrank.ranker.settings import RankerSettings
    from finrank.training.config import read_config

    values = read_config(path)
    try:
        return RankerSettings(**{key: values[key] for key in ("base_model", "prompt") if key in values})
    except ValidationError as error:
        raise UserError(f"{path}: {describe(error)}") from error


def _survival(config: Path, model: RankerSettings, drawn: dict[str, list[Question]]) -> dict[str, Any]:
    """Shares of the gold operands that survive (`Operands.as_json`) by split, or why they were not measured.

    `losing_splits` are those in which too many questions lose an operand.
    """
    from finrank.evaluation.survival import NoTokenizer, measure, token_counter

    try:
        count_tokens = token_counter(model.base_model)
    except NoTokenizer as reason:
        return {"config": str(config), "skipped": str(reason), "losing_splits": []}
    splits = {split: measure(questions, model.prompt, count_tokens).as_json() for split, questions in drawn.items()}
    return {
        "config": str(config),
        "skipped": None,
        "max_length": model.prompt.max_length,
        "context_tokens": model.prompt.context_tokens,
        "splits": splits,
        "losing_splits": [split for split, counts in splits.items() if (counts["losing"] or 0) > _TOO_MANY_LOSING],
    }


def _show_survival(rows: list[dict[str, Any]]) -> None:
    kept = ("table: in prefix", "reached", "text: in prefix", "reached", "losing one")
    shares = Table("config", "split", "questions", *kept, title="gold operands that reach the model")
    for row in rows:
        for split, counts in row.get("splits", {}).items():
            parts = [counts[origin][how] for origin in ("table", "text") for how in ("in_prefix", "reached")]
            written = ["-" if share is None else f"{100 * share:.1f} %" for share in (*parts, counts["losing"])]
            name = Path(row["config"]).name.removesuffix(".yaml")
            shares.add_row(name, split, str(counts["questions"]), *written)
    if shares.row_count:
        console.print(shares)
        say(f"at most {_DRAWN} questions per split, drawn by a fixed seed; reached: in the prefix or named by a label")
    for row in rows:
        if row["skipped"]:
            say(f"{row['config']}: not measured, {row['skipped']}")
        for split in row["losing_splits"]:
            share = row["splits"][split]["losing"]
            warn(
                f"{row['config']}: {100 * share:.1f} % of the {split} questions lose a gold operand: raise "
                "prompt.max_length or prompt.context_tokens, or set prompt.labels: true"
            )
