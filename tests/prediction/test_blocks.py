"""Sizes of blocks and buffers, the number of compilations, and checks of draws and inputs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirth.model import MLP, Categorical, FunctionalNetwork, Model, Normal
from mirth.prediction import CategoricalPredictive, Predictive
from mirth.prediction.blocks import OutputBlocks, plan_blocks, prepare_blocks

pytestmark = pytest.mark.usefixtures("unoptimised")

SIZES = st.integers(1, 5000)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(SIZES, SIZES, SIZES, SIZES, SIZES, st.integers(1, 10**7), st.none() | SIZES)
def test_plan_keeps_to_the_limit(draws, rows, output, activation, draw, limit, cache):
    plan = plan_blocks(
        draws,
        rows,
        output_bytes=output,
        activation_bytes=activation,
        draw_bytes=draw,
        max_buffer_bytes=limit,
        cache_bytes=cache,
    )
    assert 1 <= plan.rows <= rows
    assert 1 <= plan.vectorised <= plan.draws <= draws
    assert plan.rows == 1 or plan.rows * max(draws * output, activation) <= limit
    assert plan.draws == 1 or plan.draws * draw <= limit
    together = plan.vectorised * plan.rows * activation
    assert plan.vectorised == 1 or together <= min(limit, cache or limit)
    # As large as allowed: one block fewer would need blocks above the limit.
    num_blocks = -(-rows // plan.rows)
    larger = -(-rows // (num_blocks - 1)) if num_blocks > 1 else None
    assert larger is None or larger * max(draws * output, activation) > limit


def _blocks(model, draws, x, max_buffer_bytes) -> OutputBlocks:
    return prepare_blocks(model, draws, x, max_buffer_bytes)[0]


@pytest.fixture(scope="module")
def case(random_draws):
    model = Model(MLP((64,), num_outputs=2), Normal())
    x = np.random.default_rng(0).normal(size=(300, 3))
    return model, random_draws(model, x), x


def test_blocks_have_one_shape_below_the_limit(case):
    limit = 9_000
    blocks = _blocks(*case, limit)
    shapes = {outputs.shape for _, outputs in blocks}
    assert shapes == {(10, blocks.plan.rows, 2)}
    assert 10 * blocks.plan.rows * 2 * 4 <= limit
    # 64 hidden units in float32 are the widest value of a row, wider than 10 draws * 2 outputs.
    assert blocks.plan.rows == 34  # 9 blocks of at most 9000 // 256 = 35 rows
    covered = np.concatenate([np.arange(rows.start, rows.stop) for rows, _ in blocks])
    np.testing.assert_array_equal(covered, np.arange(300))


def test_outputs_are_those_of_the_model_draw_by_draw(case):
    model, draws, x = case
    flat = jax.tree.map(lambda leaf: leaf.reshape(10, *leaf.shape[2:]), draws)
    for rows, outputs in _blocks(model, draws, x, 9_000):
        for s in (0, 4, 9):
            one = jax.tree.map(lambda leaf, s=s: leaf[s], flat)
            exact = model.outputs(one, jnp.asarray(x[rows], jnp.float32))
            result = outputs[s, : rows.stop - rows.start]
            np.testing.assert_allclose(result, exact, rtol=1e-4, atol=1e-4)


def test_width_is_found_inside_nested_programs(case):
    def apply(params, x):
        def inner(h, _):
            wide = jnp.tile(h, (1, 50))
            return wide.reshape(h.shape[0], 50, -1).mean(1), None

        return jax.checkpoint(lambda h: jax.lax.scan(inner, h, None, length=2)[0])(x)

    model = Model(FunctionalNetwork(init=lambda key, x: None, apply=apply), Normal())
    blocks = _blocks(model, {"network": np.zeros((1, 1, 1), np.float32)}, np.ones((100, 2)), 4_000)
    assert blocks.plan.rows == 10  # 100 numbers of 4 bytes per row


def test_large_weights_do_not_make_small_blocks():
    def apply(params, x):
        return (params["w"].T @ x.T).T[:, :2]

    model = Model(FunctionalNetwork(init=lambda key, x: None, apply=apply), Normal())
    weights = np.zeros((1, 2, 1, 1000), np.float32)
    blocks = _blocks(model, {"network": {"w": weights}}, np.ones((50, 1)), 100_000)
    assert blocks.plan.rows == 25  # by the 1000 numbers per row, not by the 1000 weights
    assert blocks.plan.draws == 2


def test_one_compilation_serves_all_blocks():
    traces = []

    def apply(params, x):
        traces.append(x.shape)
        return x @ params["w"]

    model = Model(FunctionalNetwork(init=lambda key, x: None, apply=apply), Normal())
    draws = {"network": {"w": np.ones((1, 7, 3, 2), np.float32)}}
    predictive = Predictive(model, draws, np.ones((23, 3)), max_buffer_bytes=300)
    assert len(traces) == 1  # the abstract trace of the checks
    predictive.mean()
    predictive.log_prob(np.zeros(23))
    assert traces[1:] == [(predictive._blocks.plan.rows, 3)]
    assert predictive._blocks.plan.rows < 23


@pytest.mark.parametrize(("limit", "uses_per_block"), [(1 << 20, 1), (20_000, 2)])
def test_outputs_are_kept_only_when_one_buffer_holds_them(case, monkeypatch, limit, uses_per_block):
    calls = []
    evaluate = OutputBlocks._evaluate
    monkeypatch.setattr(
        OutputBlocks, "_evaluate", lambda self, x: calls.append(1) or evaluate(self, x)
    )
    predictive = Predictive(*case, max_buffer_bytes=limit)
    predictive.cdf(0.0)
    predictive.cdf(1.0)
    num_blocks = -(-300 // predictive._blocks.plan.rows)
    assert (num_blocks == 1) == (uses_per_block == 1)
    assert len(calls) == uses_per_block * num_blocks


def test_moments_are_computed_once(case, monkeypatch):
    predictive = Predictive(*case, max_buffer_bytes=20_000)
    first = predictive.mean()
    monkeypatch.setattr(OutputBlocks, "_evaluate", None)
    np.testing.assert_array_equal(predictive.mean(), first)
    assert predictive.std().shape == (300,)


def test_whole_numbers_stay_whole():
    def apply(params, tokens):
        return params["embedding"][tokens].sum(1)

    model = Model(
        FunctionalNetwork(init=lambda key, x: None, apply=apply), Categorical(num_classes=3)
    )
    embedding = np.random.default_rng(0).normal(size=(1, 4, 7, 3)).astype(np.float32)
    tokens = np.arange(10).reshape(5, 2) % 7
    predictive = CategoricalPredictive(model, {"network": {"embedding": embedding}}, tokens)
    assert predictive.probabilities().shape == (5, 3)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones(3), r"x has shape \(3,\)"),
        (np.ones((0, 3)), r"x has shape \(0, 3\)"),
        (np.full((2, 3), np.nan), "x has numbers that are not finite"),
        (np.array([["a", "b", "c"]]), "x has the type <U1"),
        (np.ones((2, 4)), r"x with \(4,\) features per row"),
    ],
)
def test_errors_of_inputs(x, message, case):
    model, draws, _ = case
    with pytest.raises(ValueError, match=message):
        Predictive(model, draws, x)


def _change_first_leaf(draws, change):
    leaves, tree = jax.tree.flatten(draws)
    return jax.tree.unflatten(tree, [change(leaves[0]), *leaves[1:]])


def _spoil_second_chain(leaf):
    leaf = leaf.copy()
    leaf[1, 3] = np.inf
    return leaf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda leaf: leaf[:1], r"leading axes \(2, 5\) and .*\(1, 5\)"),
        (lambda leaf: leaf[:, :4], r"leading axes \(2, 5\) and .*\(2, 4\)"),
        (lambda leaf: leaf[0, 0, 0], "leading axes"),
        (_spoil_second_chain, r"not finite in chain\(s\) \[1\]"),
    ],
)
def test_errors_of_draws(change, message, case):
    model, draws, x = case
    with pytest.raises(ValueError, match=message):
        Predictive(model, _change_first_leaf(draws, change), x)


def test_no_draws(case):
    model, draws, x = case
    with pytest.raises(ValueError, match="draws has no arrays"):
        Predictive(model, {}, x)
    with pytest.raises(ValueError, match="at least one draw"):
        Predictive(model, jax.tree.map(lambda leaf: leaf[:, :0], draws), x)


def test_buffer_size_is_checked(case):
    with pytest.raises(ValueError, match="max_buffer_bytes=0"):
        Predictive(*case, max_buffer_bytes=0)
