"""An evaluation on the screen: the tables, at most 80 columns wide, and the figures in a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from finrank.console import console, say

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
_BESIDE = {
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


def summary_line(result: Mapping[str, Any]) -> str:
    """The figures in one line, for evaluations during training."""
    figures = ", ".join(f"{name.replace('_', ' ')} {_cell(result, name)}" for name in ("accuracy", "reward_ratio"))
    baselines = {name: result["baselines"][name]["accuracy"] for name in ("chance", "constant", "medoid", "oracle")}
    beside = ", ".join(f"{name} {accuracy:.3f}" for name, accuracy in baselines.items())
    return f"{figures}, average reward {_cell(result, 'average_reward')}; accuracy of {beside}"


def print_table(result: Mapping[str, Any], title: str | None = None) -> None:
    """Print the figures: the model first, then the baselines, with 95 % intervals over pages; then further metrics."""
    title = title or f"{result['n']} pools, {result['unanswerable']} without a correct candidate"
    table = _table(title, "scorer", *_HEADLINE.values())
    rows = {"model": result, **result["baselines"]}
    for name, row in rows.items():
        cells = ["-"] * len(_HEADLINE) if row is None else [_cell(row, metric) for metric in _HEADLINE]
        table.add_row(_label(name), *cells, style="bold" if name == "model" else None, end_section=name == "model")
    console.print(table)
    beside = {name: heading for name, heading in _BESIDE.items() if rows[name] is not None}
    further = _table(None, "metric", "model", *beside.values())
    for metric, heading in _FURTHER.items():
        others = [_number(rows[name].get(metric)) for name in beside]
        further.add_row(heading, _cell(result, metric), *others)
    console.print(further)


def print_breakdowns(breakdowns: Mapping[str, Any]) -> None:
    """Print the accuracy by kind of question and pool, and which corruptions were picked."""
    table = _table("where it is right", "", "", "pools", "accuracy", "chance")
    for key, heading in _BREAKDOWNS.items():
        rows = breakdowns[key]
        for number, row in enumerate(rows):
            cells = [str(row["n"]), _with_interval(row["accuracy"], row["interval"]), f"{row['chance']:.3f}"]
            table.add_row("" if number else heading, row["name"], *cells, end_section=number == len(rows) - 1)
    if table.row_count:
        table.columns[1].justify = "left"
        console.print(table)
    fooled = _table("wrong candidates that were picked, by kind", "kind", "offered", "picked", "share", "chance")
    for row in breakdowns["fooled_by"]:
        picked = f"{row['picked']:.0f}"
        fooled.add_row(row["name"], str(row["offered"]), picked, f"{row['share']:.3f}", f"{row['chance']:.3f}")
    if fooled.row_count:
        console.print(fooled)


def print_comparison(result: Mapping[str, Any]) -> None:
    """Print in a line how the model does against the other one."""
    other = result["comparison"]
    low, high = other["interval"]
    say(
        f"against {other['other']} (accuracy {other['accuracy']:.3f}): {other['difference']:+.3f} "
        f"({low:+.3f} to {high:+.3f}), paired test over pages p = {other['p_value']:.3g}"
    )


def print_bias(bias: Mapping[str, Any]) -> None:
    """Print in a line whether picks lie evenly over the positions, and whether scores depend on the order."""
    tested = "too few pools to test" if bias["p_value"] is None else f"p = {bias['p_value']:.3g}"
    order = bias["order_invariance"]
    say(
        f"bias: picked positions against even ones: {tested}; scores of {order['checked']} pools in another order "
        f"differ by up to {order['max_difference']:.2g}"
    )


def print_confidence(confidence: Mapping[str, Any]) -> None:
    """Print how well the probabilities tell, and what answering only when sure would give."""
    at = ", ".join(
        f"{accuracy:.3f} at {float(coverage):.0%}"
        for coverage, accuracy in confidence["accuracy_at"].items()
        if accuracy is not None
    )
    say(
        f"confidence: calibration error {confidence['ece']:.3f} (uncalibrated {confidence['ece_uncalibrated']:.3f}), "
        f"temperature {confidence['temperature']:.2f}; accuracy when the surest are answered: {at}"
    )
    shipped = confidence.get("shipped")
    if shipped is not None and shipped["threshold"] is not None:
        found = "none is answered" if shipped["accuracy"] is None else f"accuracy {shipped['accuracy']:.3f}"
        say(
            f"the threshold in the model folder, {shipped['threshold']:.3f} at temperature "
            f"{shipped['temperature']:.2f}: {found}, on {shipped['coverage']:.0%} of these pools"
        )
    threshold = confidence["threshold"]
    if threshold is None:
        say("no threshold reaches the wanted accuracy on these pools: ranking abstains from nothing")
        return
    say(
        f"answering at a confidence of {threshold['value']:.3f} and more: accuracy {threshold['accuracy']:.3f}, surely "
        f"above {threshold['lower_bound']:.3f} (wanted {threshold['wanted_accuracy']}), on {threshold['coverage']:.0%}"
    )


def _table(title: str | None, first: str, *headings: str) -> Table:
    # No rules at the sides, two blanks between columns: fits 80 columns.
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _label(name: str) -> str:
    return name.replace("_", " ")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _cell(row: Mapping[str, Any], metric: str) -> str:
    value = row.get(metric)
    if value is None:
        return "-"
    return _with_interval(value, row["intervals"][metric])


def _with_interval(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.3f}" if interval is None else f"{value:.3f} ({interval[0]:.3f}-{interval[1]:.3f})"
