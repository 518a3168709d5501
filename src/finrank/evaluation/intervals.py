"""How sure a figure is: bootstrap intervals and a paired test over report pages, and a chi-square test.

Questions about one page share its table, so they are right or wrong together, and resampling single questions makes
intervals too narrow. Pages are therefore the unit (cluster bootstrap: Davison & Hinkley, "Bootstrap Methods and their
Application", 1997, section 3.8).
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike

from finrank.evaluation.metrics import FIGURE_DECIMALS, FloatArray, Metric

NameT = TypeVar("NameT", bound=Hashable)
Interval = list[float]  # low and high end, 95 %

RESAMPLES = 2_000
SIGN_FLIPS = 10_000
FEWEST_PAGES = 10  # for the interval of a row of a table
_EXACT_UP_TO = 12  # pages; 2^12 = 4,096 flips are enumerated rather than drawn
_CHUNK = 500  # draws held in memory at once
_SMALLEST_EXPECTED = 5.0  # the chi-square approximation wants at least this count in each cell


def with_interval(value: float | None, interval: Interval | None) -> str:
    """A figure and its interval: "0.590 (0.555-0.624)", or "0.590" without one; "-" for None.

    >>> with_interval(0.59, [0.5551, 0.624])
    '0.590 (0.555-0.624)'
    """
    if value is None:
        return "-"
    return f"{value:.3f}" if interval is None else f"{value:.3f} ({interval[0]:.3f}-{interval[1]:.3f})"


def page_intervals(
    metrics: Mapping[NameT, Metric], pages: Sequence[str], *, seed: int, resamples: int = RESAMPLES
) -> dict[NameT, Interval | None]:
    """95 % percentile intervals of weighted means, from resampling pages with replacement.

    `pages` names the page of each pool. A mean is the ratio of two sums over the resampled pages. None where a metric
    has no pool with weight. The interval of a single page has no width.
    """
    values = np.stack([metric.values * metric.weights for metric in metrics.values()], axis=1)
    weights = np.stack([metric.weights for metric in metrics.values()], axis=1)
    value_sums, weight_sums = _page_sums(values, pages), _page_sums(weights, pages)
    n_pages = len(value_sums)
    draws = np.random.default_rng(seed).multinomial(n_pages, np.full(n_pages, 1 / n_pages), size=resamples)
    counts = draws.astype(np.float64)  # [resamples, pages]: how often each page was drawn
    numerators, denominators = counts @ value_sums, counts @ weight_sums
    result: dict[NameT, Interval | None] = {}
    for column, name in enumerate(metrics):
        drawn = denominators[:, column] > 0  # a resample may hold only pools that are left out
        means = numerators[drawn, column] / denominators[drawn, column]
        result[name] = np.percentile(means, [2.5, 97.5]).round(FIGURE_DECIMALS).tolist() if len(means) else None
    return result


def subset_intervals(
    metrics: Mapping[NameT, Metric], pages: Sequence[str], *, seed: int
) -> dict[NameT, Interval | None]:
    """`page_intervals` for rows of a table, each of which leaves most pools out; None for one of under 10 pages."""
    if not metrics:
        return {}
    names = np.asarray(pages)
    few = {name for name, row in metrics.items() if len(np.unique(names[row.weights > 0])) < FEWEST_PAGES}
    intervals = page_intervals(metrics, pages, seed=seed)  # the same resamples for all rows
    return {name: None if name in few else interval for name, interval in intervals.items()}


def paired_sign_flip(
    first: ArrayLike, second: ArrayLike, pages: Sequence[str], *, seed: int, resamples: int = SIGN_FLIPS
) -> float:
    """Two-sided p-value for "both models are equally good", from their outcomes on the same pools [pools].

    If they were, swapping the two on a page would be as likely as not: the sum of differences is compared with the sums
    under random sign flips of whole pages. All flips are tried for up to 12 pages that differ, else `resamples` are
    drawn and p = (1 + as extreme) / (1 + resamples).

    >>> paired_sign_flip([1, 1, 1], [0, 0, 0], ["a", "b", "c"], seed=0)
    0.25
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    sums = _page_sums(differences[:, None], pages)[:, 0]
    sums = sums[sums != 0]
    at_least = abs(sums.sum()) - 1e-9  # rounding must not make the observed flip less extreme than itself
    if len(sums) <= _EXACT_UP_TO:
        flips = np.array(list(itertools.product((1.0, -1.0), repeat=len(sums))))
        return float(np.mean(np.abs(flips @ sums) >= at_least))
    random = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, resamples, _CHUNK):
        size = (min(_CHUNK, resamples - start), len(sums))
        signs = random.integers(0, 2, size=size, dtype=np.int8) * 2.0 - 1.0
        extreme += int(np.count_nonzero(np.abs(signs @ sums) >= at_least))
    return (1 + extreme) / (1 + resamples)


def _page_sums(rows: FloatArray, pages: Sequence[str]) -> FloatArray:
    """Sums of the rows [pools, columns] of each page: [pages, columns], pages in sorted order."""
    assert len(rows) == len(pages), "the page of each pool"
    names, page_of_pool = np.unique(np.asarray(pages), return_inverse=True)
    sums = np.zeros((len(names), rows.shape[1]))
    np.add.at(sums, page_of_pool, rows)
    return sums


def chi_square_p_value(observed: FloatArray, expected: FloatArray) -> float | None:
    """Pearson's goodness-of-fit test: probability of counts at least this far from the expected ones, 4 digits.

    Cells expected to hold fewer than 5 are joined with the one before; None where fewer than two cells are left.

    >>> chi_square_p_value(np.array([30.0, 10.0]), np.array([20.0, 20.0]))
    0.001565
    """
    cells: list[list[float]] = []
    for seen, wanted in zip(observed.tolist(), expected.tolist(), strict=True):
        if cells and (wanted < _SMALLEST_EXPECTED or cells[-1][1] < _SMALLEST_EXPECTED):
            cells[-1] = [cells[-1][0] + seen, cells[-1][1] + wanted]
        else:
            cells.append([seen, wanted])
    if len(cells) < 2:
        return None
    statistic = sum((seen - wanted) ** 2 / wanted for seen, wanted in cells)
    # The upper tail of chi-square with k degrees of freedom is the regularised incomplete gamma function Q(k/2, x/2).
    half = torch.tensor([(len(cells) - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(f"{torch.special.gammaincc(half[0], half[1]).item():.4g}")
