"""Sampling is worth it: on one example with a gap, better than the ensemble it starts from."""

from __future__ import annotations

import numpy as np
import pytest

import mirth
from mirth import BNNRegressor
from mirth.data.examples import GAP, RANGE, heteroscedastic_gap, true_quantities
from mirth.results import ChainVerdict


@pytest.fixture(scope="module")
def fitted() -> BNNRegressor:
    X, y = heteroscedastic_gap(num_rows=100, seed=0)
    method = mirth.MILE(n_warmup=3000, n_samples=100, n_thinning=10)
    return BNNRegressor(
        (16, 16), activation="tanh", method=method, n_members=4, random_state=0
    ).fit(X, y)


def test_better_than_the_deep_ensemble_on_fresh_rows(fitted: BNNRegressor) -> None:
    X, y = heteroscedastic_gap(num_rows=1000, seed=1)
    gain = fitted.predict_dist(X).log_prob(y) - fitted.as_deep_ensemble().predict_dist(X).log_prob(
        y
    )
    # Better by more than three standard errors over the rows, not by luck.
    assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))
    assert fitted.verdicts_ == [ChainVerdict.MOVED] * 4
    # Between one Normal for all rows and the truth.
    mean, std = true_quantities(X)
    best = (-0.5 * ((y - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)).mean()
    blind = -np.log(y.std()) - 0.5 * np.log(2 * np.pi * np.e)
    assert blind < fitted.predict_dist(X).log_prob(y).mean() < best


def test_the_band_widens_in_the_gap(fitted: BNNRegressor) -> None:
    grid = np.linspace(*RANGE, 121)[:, None]
    inside = (grid[:, 0] > GAP[0]) & (grid[:, 0] < GAP[1])
    epistemic = fitted.predict_uncertainty(grid).epistemic
    assert np.median(epistemic[inside]) > 2 * np.median(epistemic[~inside])
    width = np.diff(fitted.predict_interval(grid, 0.9), axis=1)[:, 0]
    # Between -1 and 0 the noise is smaller than right of the gap: compare with the left side,
    # where it is smaller still, and with the model's own noise.
    noise = np.sqrt(fitted.predict_uncertainty(grid).aleatoric)
    assert np.median((width / noise)[inside]) > np.median((width / noise)[~inside])
    assert width[inside].max() > width[~inside].max()
