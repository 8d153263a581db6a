"""A linear model, the deep ensemble and MILE on the same rows."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from mirth.core.folders import finite
from mirth.core.validation import check_int
from mirth.data import train_validation_split
from mirth.estimators import BNNClassifier, BNNRegressor
from mirth.evaluation import chainwise_lppd
from mirth.experiments.forecasts import (
    Forecast,
    forecast_of,
    linear_regression,
    logistic_regression,
)
from mirth.inference import DeepEnsemble, resolve_method
from mirth.report import Column, Table
from mirth.results import BiasReport, Diagnostics

LINEAR, ENSEMBLE, SAMPLED = "linear model", "deep ensemble", "MILE"
"""Names of the methods, in the order of the tables."""

MAX_CHAIN_ROWS = 1000  # rows for the LPPD of each chain: it needs all draws of all rows at once


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """Rows to learn from and rows to score on.

    Parameters
    ----------
    name : str
        Short name, for files.
    title : str
        Heading.
    target : str
        What is predicted, with its unit.
    task : {"regression", "classification"}
        What ``y`` is.
    x_train, x_test : array of shape (rows, features)
        Inputs; there may be no test rows.
    y_train, y_test : array of shape (rows,)
        Targets or labels.
    """

    name: str
    title: str
    target: str
    task: Literal["regression", "classification"]
    x_train: Float[np.ndarray, "data features"]
    y_train: Shaped[np.ndarray, " data"]
    x_test: Float[np.ndarray, "test features"]
    y_test: Shaped[np.ndarray, " test"]


class Result(NamedTuple):
    """What one method achieves.

    Parameters
    ----------
    forecast : RegressionForecast or ClassForecast
        Of the test rows.
    scores : dict of str to float
        By name.
    seconds : float
        Time of the fit, compilation included.
    """

    forecast: Forecast
    scores: dict[str, float]
    seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """A linear model, the deep ensemble and (unless that is all there is) MILE on one case.

    Parameters
    ----------
    case : Case
        The rows.
    estimator : BNNRegressor or BNNClassifier
        Fitted by MILE, or as a deep ensemble.
    results : dict of str to Result
        By method; empty without test rows, and then there are no scores to ask for.
    diagnostics : Diagnostics
        Health of the chains.
    start_lppd, chain_lppd : array of shape (chains,)
        LPPD of (up to 1000) test rows by each chain's start, and by its draws; nats per row.
        Without test rows: of the validation rows, with the target scaled.
    bias : BiasReport, optional
        What half the step size changes in the predictions of the test rows, or of the validation
        rows where there are none; None if it was not asked for.
    """

    case: Case
    estimator: BNNRegressor | BNNClassifier
    results: dict[str, Result]
    diagnostics: Diagnostics
    start_lppd: np.ndarray
    chain_lppd: np.ndarray
    bias: BiasReport | None = None

    @property
    def main(self) -> str:
        """Name of the estimator's own method."""
        return list(self.results)[-1]

    @property
    def rival(self) -> str:
        """Name of the method that it is compared with first: the one before it."""
        return list(self.results)[-2]

    def y_test(self) -> np.ndarray:
        """Give targets of the test rows, or their class indices."""
        return as_targets(self.estimator, self.case.y_test)

    def table(self) -> Table:
        """Tabulate the scores."""
        columns = next(iter(self.results.values())).forecast.columns
        return Table(
            f"{self.case.title}: {len(self.case.y_test)} test rows",
            [Column("method"), *columns.values(), Column("seconds", ".1f")],
            [
                [method, *(result.scores[name] for name in columns), result.seconds]
                for method, result in self.results.items()
            ],
        )

    def health_table(self) -> Table:
        """Tabulate the chains."""
        d = self.diagnostics
        numbers = zip(
            self.start_lppd, self.chain_lppd, d.ess_function, d.rhat_function, d.ess_parameters,
            d.divergence_rate, d.step_size, d.L, strict=True,
        )  # fmt: skip
        tuning = self.estimator.posterior_.tuning
        sources = [""] * len(d.members) if tuning is None else tuning.L_from.tolist()
        return Table(
            f"{self.case.title}: health of the chains",
            [
                Column("chain", "d"),
                Column("verdict"),
                Column("LPPD of start"),
                Column("LPPD of chain"),
                Column("ESS (outputs)", ".0f"),
                Column("R-hat (outputs)", ".2f"),
                Column("ESS (weights)", ".0f"),
                Column("reverted steps", ".1%"),
                Column("step size", ".3g"),
                Column("L", ".3g"),
                Column("L from"),
            ],
            [
                [k, verdict.name.lower().replace("_", " "), *map(float, row), source]
                for k, verdict, row, source in zip(
                    d.members, d.verdicts, numbers, sources, strict=True
                )
            ],
        )

    def bias_table(self) -> Table:
        """Tabulate what half the step size changes; it must have been asked for."""
        assert self.bias is not None
        columns = [Column("of the"), Column("change", ".4f"), Column("error", ".4f")]
        columns += [Column(name, ".4f") for name in ("5 %", "95 %", "chance alone")]
        return Table(
            f"{self.case.title}: what half the step size changes",
            columns,
            [[name, *change] for name, change in self.bias.table().items()],
        )

    def _bias_record(self) -> dict[str, Any] | None:
        if self.bias is None:
            return None
        return {
            "verdict": self.bias.verdict.name,
            "sentence": self.bias.sentence,
            "changes": {name: change._asdict() for name, change in self.bias.table().items()},
        }

    def record(self) -> dict[str, Any]:
        """Give everything that is a number, for ``metrics.json``; None where there is none."""
        posterior, d = self.estimator.posterior_, self.diagnostics
        return finite(
            {
                "task": self.case.task,
                "train_rows": len(self.case.y_train),
                "test_rows": len(self.case.y_test),
                "methods": {
                    method: {**result.scores, "seconds": result.seconds}
                    for method, result in self.results.items()
                },
                "seconds_by_part": {name: float(s) for name, s in posterior.seconds.items()},
                "gradients_per_chain": int(posterior.num_gradients),
                "bias": self._bias_record(),
                "tuning": None if posterior.tuning is None else posterior.tuning.to_record(),
                "health": {
                    "summary": d.summary,
                    "verdicts": [verdict.name for verdict in d.verdicts],
                    "lppd_start": self.start_lppd.tolist(),
                    "lppd_chain": self.chain_lppd.tolist(),
                    **{
                        name: np.asarray(getattr(d, name), np.float64).tolist()
                        for name in (
                            "ess_function", "rhat_function", "ess_parameters", "rhat_parameters",
                            "divergence_rate", "step_size", "L",
                        )
                    },
                },
            }
        )  # fmt: skip


def split_case(
    name: str,
    title: str,
    target: str,
    task: Literal["regression", "classification"],
    x: np.ndarray,
    y: np.ndarray,
    *,
    test_fraction: float,
    seed: int,
) -> Case:
    """Hold out test rows; classes keep their proportions.

    Parameters
    ----------
    name, title, target, task, x, y
        As for :class:`Case`, all rows.
    test_fraction : float
        Share of the test rows.
    seed : int
        Says which rows.

    Returns
    -------
    Case

    Raises
    ------
    ValueError
        If ``test_fraction`` or ``seed`` is out of range, or classes are too small.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.zeros((10, 1)), np.arange(10.0)
    >>> case = split_case("a", "A", "y", "regression", x, y, test_fraction=0.2, seed=0)
    >>> len(case.y_train), len(case.y_test)
    (8, 2)
    """
    labels = y if task == "classification" else None
    train, test = train_validation_split(len(y), test_fraction, seed, stratify=labels)
    return Case(name, title, target, task, x[train], y[train], x[test], y[test])


def compare(
    case: Case, estimator: BNNRegressor | BNNClassifier, *, bias_check: bool = False
) -> Comparison:
    """Fit all methods to the training rows and score them on the test rows.

    The deep ensemble is the one that the chains of the estimator start from, or the estimator
    itself. Without test rows only the estimator is fitted.

    Parameters
    ----------
    case : Case
        The rows.
    estimator : BNNRegressor or BNNClassifier
        With the method MILE or DeepEnsemble; it is fitted here.
    bias_check : bool, default=False
        Let the chains go on at half their step size, to see if it was too long.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If a deep ensemble, which has no steps, is to be checked.
    """
    if bias_check and isinstance(resolve_method(estimator.method), DeepEnsemble):
        raise ValueError("bias_check=True needs chains; a deep ensemble has no steps.")
    if len(case.y_test):
        check_int("test rows", len(case.y_test), minimum=2)
    begin = time.perf_counter()
    estimator.fit(case.x_train, case.y_train)
    seconds = time.perf_counter() - begin
    if not len(case.y_test):
        posterior = estimator.posterior_
        lppd = (posterior.lppd_start, posterior.lppd_chain)
        bias = estimator.bias_report() if bias_check else None
        return Comparison(case, estimator, {}, estimator.diagnostics_, *lppd, bias=bias)
    y_train, y_test = (as_targets(estimator, y) for y in (case.y_train, case.y_test))
    linear = linear_regression if case.task == "regression" else logistic_regression
    forecast, linear_seconds = linear(case.x_train, y_train, case.x_test, y_test)
    results = {LINEAR: Result(forecast, forecast.scores(y_test), linear_seconds)}
    by_chain: list[np.ndarray] = []
    rows = slice(0, MAX_CHAIN_ROWS)
    for method, fitted, time_taken in (
        (ENSEMBLE, estimator.as_deep_ensemble(), estimator.posterior_.seconds["warm_start"]),
        (SAMPLED, estimator, seconds),
    ):
        reduced = forecast_of(fitted.predict_dist(case.x_test), y_test)
        if method == SAMPLED and estimator.posterior_.tuning is None:
            by_chain.append(by_chain[0])  # a deep ensemble only: each chain is its own start
            continue
        results[method] = Result(reduced, reduced.scores(y_test), float(time_taken))
        dist = fitted.predict_dist(case.x_test[rows])
        by_chain.append(chainwise_lppd(dist.log_prob_per_draw(y_test[rows])))
    start, chain = by_chain
    bias = estimator.bias_report(case.x_test, case.y_test) if bias_check else None
    return Comparison(case, estimator, results, estimator.diagnostics_, start, chain, bias)


def as_targets(estimator: BNNRegressor | BNNClassifier, y: np.ndarray) -> np.ndarray:
    """Turn labels into class indices; leave the targets of a regression as they are."""
    if isinstance(estimator, BNNClassifier):
        return np.searchsorted(estimator.classes_, y)
    return np.asarray(y, np.float64)
