"""How sure a figure is: bootstrap intervals and a paired test, both over report pages.

Questions about one page share its table, so they are right or wrong together; resampling single questions
would give intervals that are too narrow. Pages are therefore the unit (cluster bootstrap: Davison & Hinkley,
"Bootstrap Methods and their Application", 1997, section 3.8).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from finrank.evaluation.metrics import FIGURE_DECIMALS, FloatArray, Metric

RESAMPLES = 2_000
SIGN_FLIPS = 10_000
FEWEST_PAGES = 10  # for the interval of a row of a table
_EXACT_UP_TO = 12  # pages; 2^12 = 4,096 flips are enumerated rather than drawn
_CHUNK = 500  # draws held in memory at once


def page_intervals(
    metrics: Mapping[str, Metric], pages: Sequence[str], *, seed: int, resamples: int = RESAMPLES
) -> dict[str, list[float] | None]:
    """95 % percentile intervals [low, high] of weighted means, from resampling pages with replacement.

    `pages` names the page of each pool. A mean is the ratio of two sums over the resampled pages, so its
    denominator varies with them. None where a metric has no pool with weight. One page gives an interval of
    no width: it says nothing about other pages.
    """
    names = list(metrics)
    values = np.stack([metrics[name].values * metrics[name].weights for name in names], axis=1)
    weights = np.stack([metrics[name].weights for name in names], axis=1)
    value_sums, weight_sums = _page_sums(values, pages), _page_sums(weights, pages)
    n_pages = len(value_sums)
    draws = np.random.default_rng(seed).multinomial(n_pages, np.full(n_pages, 1 / n_pages), size=resamples)
    counts = draws.astype(np.float64)  # [resamples, pages]: how often each page was drawn
    numerators, denominators = counts @ value_sums, counts @ weight_sums
    result: dict[str, list[float] | None] = {}
    for column, name in enumerate(names):
        drawn = denominators[:, column] > 0  # a resample may hold only pools that are left out
        means = numerators[drawn, column] / denominators[drawn, column]
        result[name] = np.percentile(means, [2.5, 97.5]).round(FIGURE_DECIMALS).tolist() if len(means) else None
    return result


def subset_intervals(
    metrics: Mapping[str, Metric], pages: Sequence[str], *, seed: int
) -> dict[str, list[float] | None]:
    """`page_intervals` for rows of a table, each of which leaves most pools out; None for one of under 10 pages.

    Resampling a handful of pages says too little about others: four that are right would give [1.0, 1.0].
    """
    if not metrics:
        return {}
    names = np.asarray(pages)
    few = {name for name, one in metrics.items() if len(np.unique(names[one.weights > 0])) < FEWEST_PAGES}
    intervals = page_intervals(metrics, pages, seed=seed)  # the same resamples for all rows
    return {name: None if name in few else interval for name, interval in intervals.items()}


def paired_sign_flip(
    first: ArrayLike, second: ArrayLike, pages: Sequence[str], *, seed: int, resamples: int = SIGN_FLIPS
) -> float:
    """Two-sided p-value for "both models are equally good", from their outcomes on the same pools [pools].

    If they were, swapping the two on a page would be as likely as not: the sum of differences is compared
    with the sums under random sign flips of whole pages. All flips are tried for up to 12 pages that differ,
    else `resamples` are drawn and p = (1 + as extreme) / (1 + resamples). Pools to be left out must not be
    passed.

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


def paired_difference(first: Metric, second: Metric, pages: Sequence[str], *, seed: int) -> dict[str, Any]:
    """How much better the first of two scorers is on the same pools: "difference", its "interval" and "p_value".

    The interval is that of `page_intervals` for the mean difference per pool, the p-value that of `paired_sign_flip`.
    Both metrics have the same weights; pools of weight 0 are left out. All None where every pool is.
    """
    assert np.array_equal(first.weights, second.weights), "the same metric of the same pools"
    difference = Metric(first.values - second.values, first.weights)
    mean = difference.mean()
    if mean is None:
        return {"difference": None, "interval": None, "p_value": None}
    return {
        "difference": mean,
        "interval": page_intervals({"difference": difference}, pages, seed=seed)["difference"],
        "p_value": paired_sign_flip(first.values * first.weights, second.values * second.weights, pages, seed=seed),
    }


def _page_sums(rows: FloatArray, pages: Sequence[str]) -> FloatArray:
    """Sums of the rows [pools, columns] of each page: [pages, columns], pages in sorted order."""
    if len(rows) != len(pages):
        raise ValueError(f"{len(rows)} pools but {len(pages)} page names: give the page of each pool")
    names, page_of_pool = np.unique(np.asarray(pages, dtype=object).astype(str), return_inverse=True)
    sums = np.zeros((len(names), rows.shape[1]))
    np.add.at(sums, page_of_pool, rows)
    return sums
