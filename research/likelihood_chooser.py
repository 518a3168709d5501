"""Wrote "The generator's likelihood in the chooser" in docs/experiments.md: is it worth a weight of its own?

An answer's likelihood is that of all distinct programs in the pool that compute it, added up, at least exp(-20); that
of answers without a program is the floor. The chooser is fitted with and without it, in five folds of pages, and the
accuracy of the first answer is of pages that were not fitted on.

    python research/likelihood_chooser.py --data POOLS --generator outputs/run_002 [--model finqa-minilm]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from finrank.evaluation.fit_chooser import ChooserPool, chooser_pool, cross_fitted, fit_weights
from finrank.evaluation.intervals import page_intervals, with_interval
from finrank.evaluation.metrics import Metric
from finrank.generator.likelihood import score_by_likelihood
from finrank.generator.model import load_generator
from finrank.ranker.choosing.answers import group_equal_answers
from finrank.ranker.saving import load_model
from finrank.ranker.scoring import score_records
from finrank.records import RewardedPool
from finrank.store import load_records

LEAST = -20.0  # of an answer's log-likelihood
L2 = 0.1


def of_answers(pool: RewardedPool, scores: np.ndarray, likelihoods: np.ndarray) -> np.ndarray:
    """The log-likelihood [answers] of a pool's answers, in the order of `chooser_pool`."""
    groups = [one for one in group_equal_answers(pool.candidates, scores, pool.question) if one.log_probability > -np.inf]
    values = []
    for group in groups:
        by_program = {pool.candidates[index].program: likelihoods[index] for index in group.indices}
        values.append(max(LEAST, float(np.logaddexp.reduce(list(by_program.values())))))
    return np.array(values)


def first_is_right(pools: Sequence[ChooserPool], columns: Sequence[np.ndarray]) -> np.ndarray:
    """For each pool 1 if its first answer is right, by weights of the columns that other pages chose."""
    column_of = {id(pool): rows for pool, rows in zip(pools, columns, strict=True)}

    def fit(others: Sequence[ChooserPool]):  # noqa: ANN202
        designs = [(column_of[id(pool)], pool.right) for pool in others]
        weights = fit_weights(designs, np.full(columns[0].shape[1], L2))
        return lambda pool: column_of[id(pool)] @ weights

    return np.array([pool.right[scores.argmax()] for pool, scores in zip(pools, cross_fitted(pools, fit), strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="output of stage 03")
    parser.add_argument("--generator", type=Path, required=True, help="a run of finrank generation")
    parser.add_argument("--model", type=Path, default=Path("finqa-minilm"), help="the ranker")
    parser.add_argument("--split", default="dev")
    options = parser.parse_args()
    records = load_records(options.data / f"{options.split}.jsonl", RewardedPool)
    scores = score_records(load_model(options.model, merge=True), records, "scoring")
    likelihoods = score_by_likelihood(load_generator(options.generator), records, "likelihood")["likelihood"]
    pools = [chooser_pool(record, score) for record, score in zip(records, scores, strict=True)]
    written = [of_answers(*three) for three in zip(records, scores, likelihoods, strict=True)]
    ranker = [pool.log_probabilities[:, None] for pool in pools]
    features = [pool.features for pool in pools]
    likelihood = [value[:, None] for value in written]
    pages = [pool.page for pool in pools]
    for name, parts in {
        "ranker alone": [ranker],
        "likelihood alone": [likelihood],
        "ranker, likelihood": [ranker, likelihood],
        "ranker, votes and the rest": [ranker, features],
        "likelihood, votes and the rest": [likelihood, features],
        "all": [ranker, features, likelihood],
    }.items():
        right = first_is_right(pools, [np.hstack(columns) for columns in zip(*parts, strict=True)])
        intervals = page_intervals({name: Metric(right, np.ones(len(right)))}, pages, seed=0)
        print(f"{name:32} {with_interval(right.mean(), intervals[name])}")


if __name__ == "__main__":
    main()
