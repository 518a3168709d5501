"""An evaluation on the screen: tables at most 80 columns wide, and figures in a line."""

from __future__ import annotations

from rich import box
from rich.table import Table

from finrank.console import console, say, warn
from finrank.evaluation.intervals import with_interval
from finrank.evaluation.result import (
    AnswerFigures,
    Breakdowns,
    CalibrationFigures,
    Comparison,
    EvaluationResult,
    Figures,
    ScorerFigures,
)

# The first table: these for every scorer, with intervals.
_HEADLINE = {"accuracy": "accuracy", "reward_ratio": "reward ratio", "average_reward": "average reward"}
# The second table: these for the model with intervals, and for some scorers without.
_FURTHER = {
    "mrr": "MRR",
    "ndcg": "nDCG",
    "execution_accuracy": "execution acc.",
    "program_accuracy": "program acc.",
    "accuracy_pooled": "answers, pooled",
    "accuracy_max": "answers, by best",
}
_COMPARED = {
    "chance": "chance",
    "candidate_only": "control",
    "medoid": "medoid",
    "majority_vote": "vote",
    "oracle": "oracle",
}
_BREAKDOWNS = {
    "steps": "gold program's steps",
    "operation": "its operations",
    "origin": "its numbers are in",
    "context_length": "length of page",
    "candidates": "size of pool",
}


def print_evaluation(result: EvaluationResult) -> None:
    """Print the tables, a line each for comparison, bias and confidence, and the troubles as warnings."""
    figures, bias = result.figures, result.bias
    if result.answers is not None:
        print_answers(result.answers)
    print_table(
        figures, f"{result.source.split}: {figures.n} pools, {figures.unanswerable} without a correct candidate"
    )
    if result.comparison is not None:
        say(_against(result.comparison, "accuracy"))
    tested = "too few pools to test" if bias.p_value is None else f"p = {bias.p_value:.3g}"
    say(
        f"bias: picked positions against even ones: {tested}; scores of {bias.order_invariance.checked} pools in "
        f"another order differ by up to {bias.order_invariance.max_difference:.2g}"
    )
    _print_confidence(result.confidence)
    for sentence in result.troubles:
        warn(sentence)
    print_breakdowns(result.breakdowns)


def print_answers(answers: AnswerFigures) -> None:
    """What is chosen where systems agree and differ comes first: it is what people get."""
    table = _table("the first answer", "chosen by", "accuracy", "p")
    table.add_row("finrank", with_interval(answers.accuracy, answers.interval), "", style="bold", end_section=True)
    for name, row in answers.rows.items():
        table.add_row(name, with_interval(row.accuracy, row.interval), f"{row.p_value:.2g}")
    console.print(table)
    if answers.compared is not None:
        say(_against(answers.compared, "first answer"))
    vote = answers.baselines["vote"]
    if vote is not None and answers.fitted.accuracy > max(answers.accuracy, vote.accuracy):
        say("finrank fit stores weights of votes and systems that fit these pools")


def _against(other: Comparison, what: str) -> str:
    low, high = other.interval
    return (
        f"against {other.other} ({what} {other.accuracy:.3f}): {other.difference:+.3f} "
        f"({low:+.3f} to {high:+.3f}), paired test over pages p = {other.p_value:.3g}"
    )


def summary_line(figures: Figures) -> str:
    """The figures in one line, for evaluations during training."""
    shown = ", ".join(f"{heading} {_cell(figures.model, metric)}" for metric, heading in _HEADLINE.items())
    compared = ", ".join(
        f"{name} {figures.accuracy_of(name):.3f}" for name in ("chance", "constant", "medoid", "oracle")
    )
    return f"{shown}; accuracy of {compared}"


def print_table(figures: Figures, title: str) -> None:
    """Print the model first, then the baselines, with 95 % intervals over pages; then further metrics."""
    table = _table(title, "scorer", *_HEADLINE.values())
    rows = {"model": figures.model, **figures.baselines}
    for name, row in rows.items():
        cells = ["-"] * len(_HEADLINE) if row is None else [_cell(row, metric) for metric in _HEADLINE]
        style = "bold" if name == "model" else None
        table.add_row(name.replace("_", " "), *cells, style=style, end_section=name == "model")
    console.print(table)
    compared = {heading: row for name, heading in _COMPARED.items() if (row := rows[name]) is not None}
    further = _table(None, "metric", "model", *compared)
    for metric, heading in _FURTHER.items():
        others = [with_interval(row.means.get(metric), None) for row in compared.values()]
        further.add_row(heading, _cell(figures.model, metric), *others)
    console.print(further)


def print_breakdowns(breakdowns: Breakdowns) -> None:
    """Print the accuracy by kind of question and pool, and which corruptions were picked."""
    table = _table("where it is right", "", "", "pools", "accuracy", "chance")
    for key, heading in _BREAKDOWNS.items():
        rows = getattr(breakdowns, key)
        for number, row in enumerate(rows):
            cells = [str(row.n), with_interval(row.accuracy, row.interval), f"{row.chance:.3f}"]
            table.add_row("" if number else heading, row.name, *cells, end_section=number == len(rows) - 1)
    if table.row_count:
        table.columns[1].justify = "left"
        console.print(table)
    fooled = _table("wrong candidates that were picked, by kind", "kind", "offered", "picked", "share", "chance")
    for kind in breakdowns.fooled_by:
        fooled.add_row(kind.name, str(kind.offered), f"{kind.picked:.0f}", f"{kind.share:.3f}", f"{kind.chance:.3f}")
    if fooled.row_count:
        console.print(fooled)


def _print_confidence(confidence: CalibrationFigures) -> None:
    at = ", ".join(f"{accuracy:.3f} at {coverage:.0%}" for coverage, accuracy in confidence.accuracy_at.items())
    say(
        f"confidence: calibration error {confidence.ece:.3f} (uncalibrated {confidence.ece_uncalibrated:.3f}), "
        f"temperature {confidence.temperature:.2f}; accuracy when the surest are answered: {at}"
    )
    shipped, threshold = confidence.shipped, confidence.threshold
    if shipped is not None and shipped.threshold is not None:
        answered = "none is answered" if shipped.accuracy is None else f"accuracy {shipped.accuracy:.3f}"
        say(
            f"the threshold in the model folder, {shipped.threshold:.3f} at temperature "
            f"{shipped.temperature:.2f}: {answered}, on {shipped.coverage:.0%} of these pools"
        )
    if threshold is None:
        say("no threshold reaches the wanted accuracy on these pools: ranking abstains from nothing")
        return
    say(
        f"answering at a confidence of {threshold.value:.3f} and more: accuracy {threshold.accuracy:.3f}, surely "
        f"above {threshold.lower_bound:.3f} (wanted {threshold.wanted_accuracy}), on {threshold.coverage:.0%}"
    )


def _table(title: str | None, first: str, *headings: str) -> Table:
    # No rules at the sides, two blanks between columns: fits 80 columns.
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _cell(row: ScorerFigures, metric: str) -> str:
    return with_interval(row.means.get(metric), row.intervals.get(metric))
