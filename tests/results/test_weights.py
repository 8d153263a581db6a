"""Weights of chains in whatever is done with a posterior, and finding them by stacking."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax import export

import mirth
from mirth import results
from mirth.evaluation import chainwise_leave_one_out, chainwise_lppd, stacking_weights
from mirth.results.compression import exchange

pytestmark = pytest.mark.usefixtures("unoptimised")

WEIGHTS = np.array([0.25, 0.75])


@pytest.fixture(scope="module")
def weighted(numbers: mirth.Posterior) -> mirth.Posterior:
    return dataclasses.replace(numbers, chain_weights=WEIGHTS)


@pytest.fixture(scope="module")
def repeated(numbers: mirth.Posterior) -> mirth.Posterior:
    """The same mixture without weights: the second chain is there three times."""
    return numbers.take_chains([0, 1, 1, 1])


@pytest.fixture(scope="module")
def spoilt(scaled: Any) -> tuple[mirth.Posterior, mirth.Dataset]:
    """Two chains of a fit, 40 draws each; the second sees its inputs turned round."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)).astype(np.float32)
    y = (x @ [1.0, -0.5] + 0.3 * rng.normal(size=60)).astype(np.float32)
    model = mirth.Model(mirth.MLP((), num_outputs=1), mirth.likelihoods.HomoscedasticNormal())
    data = mirth.Dataset(x, y)
    method = mirth.DeepEnsemble(learning_rate=0.1, max_epochs=30)
    ensemble = mirth.infer(model, data, method, num_chains=2)

    def scattered(leaf: np.ndarray) -> np.ndarray:
        wide = np.repeat(leaf, 40, axis=1)
        return wide + 0.01 * rng.normal(size=wide.shape).astype(np.float32)

    draws = jax.tree.map(scattered, ensemble.draws)
    draws = jax.tree.map(
        lambda leaf: leaf * np.array([1, 0.3])[(...,) + (None,) * (leaf.ndim - 1)], draws
    )
    return dataclasses.replace(ensemble, draws=draws), data


# What a posterior does with weights


def test_predictions_know_the_weights(weighted: Any, repeated: Any, scaled: Any) -> None:
    x, y = scaled[0][80:], scaled[1][80:]
    found, same = results.predict_dist(weighted, x), results.predict_dist(repeated, x)
    np.testing.assert_allclose(found.log_prob(y), same.log_prob(y), rtol=1e-5, atol=1e-5)
    equal = results.predict_dist(weighted, x, chain_weights=None)
    assert np.abs(equal.log_prob(y) - found.log_prob(y)).max() > 0.01
    parts, expected = results.split_uncertainty(found), results.split_uncertainty(same)
    np.testing.assert_allclose(parts, expected, rtol=1e-4)
    ends = [results.conformalize(dist, y).interval(dist, 0.8) for dist in (found, same)]
    np.testing.assert_allclose(*ends, rtol=1e-4, atol=1e-4)


def test_parts_keep_the_ratios(repeated: mirth.Posterior) -> None:
    posterior = dataclasses.replace(repeated, chain_weights=[0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(posterior.take_chains([1, 3]).chain_weights, [1 / 3, 2 / 3])
    assert posterior.take_draws(np.zeros((4, 1), int)).chain_weights is posterior.chain_weights
    assert posterior.start_as_posterior().chain_weights is None
    zero = dataclasses.replace(repeated, chain_weights=[0.0, 0.0, 0.3, 0.7])
    with pytest.raises(ValueError, match=r"chains \[0, 1\] all have weight 0"):
        zero.take_chains([0, 1])
    with pytest.raises(ValueError, match="sum to 2; divide them"):
        dataclasses.replace(repeated, chain_weights=[0.5, 0.5, 0.5, 0.5])


def test_a_part_that_is_joined_counts_by_its_chains(weighted: Any, numbers: Any) -> None:
    other = dataclasses.replace(numbers.take_chains([0]), members=np.array([7]))
    joined = mirth.join_chains([weighted, other])
    np.testing.assert_allclose(joined.chain_weights, [1 / 6, 3 / 6, 1 / 3])
    plain = mirth.join_chains([dataclasses.replace(weighted, chain_weights=None), other])
    assert plain.chain_weights is None


def test_a_file_keeps_the_weights(weighted: Any, tmp_path: Path) -> None:
    results.save(weighted, tmp_path / "model")
    np.testing.assert_array_equal(results.load(tmp_path / "model").chain_weights, WEIGHTS)


def test_a_program_has_the_weights(
    weighted: Any, repeated: Any, classes: Any, scaled: Any, tmp_path: Path
) -> None:
    x = scaled[0][80:].astype(np.float32)

    def run(posterior: mirth.Posterior) -> dict[str, np.ndarray]:
        path = tmp_path / "model.stablehlo"
        results.export(posterior, path, x)
        return export.deserialize(bytearray(path.read_bytes())).call(x)

    found = run(weighted)
    dist = results.predict_dist(repeated, x)
    np.testing.assert_allclose(found["mean"], dist.mean(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["std"], dist.std(), rtol=1e-4)
    expected = dist.quantile([0.05, 0.5, 0.95])
    np.testing.assert_allclose(found["quantiles"], expected, rtol=1e-3, atol=1e-4)
    heavy = dataclasses.replace(classes, chain_weights=WEIGHTS)
    expected = results.predict_dist(classes.take_chains([0, 1, 1, 1]), x).probabilities()
    np.testing.assert_allclose(run(heavy)["probabilities"], expected, rtol=1e-4, atol=1e-6)


def test_compression_chooses_and_scores_by_the_weights(
    weighted: Any, repeated: Any, scaled: Any
) -> None:
    x, y = scaled[0][80:], scaled[1][80:]
    small, report = results.compress(weighted, 4, x=x, y=y, dtype="float32")
    assert small.chain_weights is weighted.chain_weights
    expected = results.predict_dist(weighted, x).log_prob(y).mean()
    assert report.lppd_all == pytest.approx(expected, rel=1e-6)
    assert report.lppd == pytest.approx(results.predict_dist(small, x).log_prob(y).mean(), rel=1e-5)
    # With nearly all the weight on one chain its draws are chosen as if it were alone.
    alone = weighted.take_chains([1])
    heavy = dataclasses.replace(weighted, chain_weights=[1e-9, 1 - 1e-9])
    small, _ = results.compress(heavy, 4, x=x, y=y, dtype="float32")
    log_prob = results.predict_dist(alone, x).log_prob_per_draw(y)
    chosen = exchange(log_prob, np.array([[4, 9, 14, 19]]))
    np.testing.assert_array_equal(small.positions()[1], alone.positions()[0][chosen[0]])


def test_the_table_of_the_health_shows_weights_that_differ(weighted: Any, scaled: Any) -> None:
    shown = str(results.diagnose(weighted, scaled[0][:80]))
    assert shown.splitlines()[0].endswith("weight") and "0.75" in shown
    plain = dataclasses.replace(weighted, chain_weights=None)
    assert "weight" not in str(results.diagnose(plain, scaled[0][:80])).splitlines()[0]


def test_arviz_has_the_weights(weighted: Any, scaled: Any) -> None:
    pytest.importorskip("arviz_base")
    data = mirth.Dataset(scaled[0][:80], scaled[1][:80])
    tree = results.to_arviz(weighted, data)
    np.testing.assert_array_equal(tree["constant_data"]["chain_weights"], WEIGHTS)
    assert tree["constant_data"]["chain_weights"].dims == ("chain",)
    plain = dataclasses.replace(weighted, chain_weights=None)
    assert "constant_data" not in results.to_arviz(plain, data)


# Finding them


def test_stacking_finds_the_better_chain(spoilt: Any) -> None:
    posterior, data = spoilt
    log_prob = results.predict_dist(posterior, data.x).log_prob_per_draw(data.y)
    scores = chainwise_leave_one_out(log_prob)
    used = (scores.pareto_k <= 0.7).all(axis=0)
    stacked = results.stack(posterior, data)
    expected = stacking_weights(scores.pointwise[:, used])
    np.testing.assert_allclose(stacked.chain_weights, expected, rtol=1e-6)
    assert stacked.chain_weights[0] > 0.8
    assert f"on {used.sum()} of 60 rows" in stacked.notes[-1]
    assert "equal ones are 0.5" in results.diagnose(stacked, data.x).summary
    pulled = results.stack(posterior, data, prior_rows=1000.0)
    assert abs(pulled.chain_weights[0] - 0.5) < 0.1
    assert len(results.stack(stacked, data).notes) == len(stacked.notes)  # said once


def test_other_rows_are_scored_as_they_are(spoilt: Any) -> None:
    posterior, data = spoilt
    log_prob = results.predict_dist(posterior, data.x).log_prob_per_draw(data.y)
    by_chain = np.stack([chainwise_lppd(log_prob[..., [n]]) for n in range(60)], axis=1)
    stacked = results.stack(posterior, data, held_out=True)
    np.testing.assert_allclose(stacked.chain_weights, stacking_weights(by_chain), rtol=1e-6)
    assert "on 60 held-out rows" in stacked.notes[-1]


def test_weights_of_rows_count(spoilt: Any) -> None:
    posterior, data = spoilt
    few = np.arange(60) % 3 == 0
    zero = dataclasses.replace(data, weights=few.astype(np.float32))
    for held_out in (False, True):
        expected = results.stack(posterior, data.take(np.flatnonzero(few)), held_out=held_out)
        found = results.stack(posterior, zero, held_out=held_out)
        np.testing.assert_allclose(found.chain_weights, expected.chain_weights, rtol=1e-5)


def test_where_no_row_can_be_trusted_the_weights_stay_equal(spoilt: Any) -> None:
    posterior, data = spoilt
    frozen = jax.tree.map(lambda leaf: np.repeat(leaf[:, :1], 40, axis=1), posterior.draws)
    stacked = results.stack(dataclasses.replace(posterior, draws=frozen), data)
    assert stacked.chain_weights is None
    assert "on 0 of 60 rows: equal, because no row" in stacked.notes[-1]
    alone = results.stack(posterior.take_chains([0]), data)
    assert alone.chain_weights is None and alone.notes == posterior.notes


def test_large_tables_are_thinned(spoilt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    posterior, data = spoilt
    monkeypatch.setattr("mirth.results.stacking._MAX_ROWS", 25)
    stacked = results.stack(posterior, data, held_out=True)
    expected = results.stack(posterior, data.take(np.arange(0, 60, 3)), held_out=True)
    np.testing.assert_array_equal(stacked.chain_weights, expected.chain_weights)


def test_what_cannot_be_stacked_is_named(spoilt: Any, numbers: Any) -> None:
    posterior, data = spoilt
    with pytest.raises(ValueError, match=r"has 20 draw\(s\) per chain .* need 25; pass rows that"):
        results.stack(numbers, data)
    with pytest.raises(TypeError, match="dataset is a ndarray; pass the rows as mirth.Dataset"):
        results.stack(posterior, data.x)
    with pytest.raises(TypeError, match="posterior is a dict"):
        results.stack({}, data)
