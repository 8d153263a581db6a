"""Shared by the tests of inference: a tiny problem, and compilation that costs less.

Every run compiles its own programs, so compilation is nearly all of the time. A cache on disk
serves programs that are equal (the same run with other chunks); where the numbers of a run are not
the point, a module asks for the fixture ``unoptimised``, which halves the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import mirth
from mirth.inference import Placement, Posterior
from mirth.samplers import MILETuner

TUNER = {field.name for field in dataclasses.fields(MILETuner)} - {"num_steps"}


@pytest.fixture(scope="session")
def data() -> mirth.Dataset:
    x = np.linspace(-1.5, 1.5, 40)[:, None]
    noise = np.random.default_rng(0).normal(size=40)
    return mirth.Dataset(x, np.sin(2 * x[:, 0]) + 0.1 * noise)


@pytest.fixture(scope="session")
def model() -> mirth.Model:
    return mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())


@pytest.fixture(scope="session")
def run(data: mirth.Dataset, model: mirth.Model) -> Callable[..., Posterior]:
    """Short run on a number of devices; fields of the method and of its tuner as keywords."""

    def infer(
        *,
        num_chains: int = 2,
        num_devices: int = 2,
        sequential: bool = True,
        seed: int = 0,
        chunk_steps: int | None = 50,
        data_block_size: int | None = None,
        verbose: Any = False,
        monitors: Any = (),
        max_time: Any = None,
        likelihood: Any = model.likelihood,
        network: Any = model.network,
        out: Any = None,
        checkpoint_seconds: float = 30.0,
        draws_store: Any = None,
        **fields: Any,
    ) -> Posterior:
        start = fields.pop(
            "start", mirth.DeepEnsemble(learning_rate=0.03, max_epochs=15, batch_size=8)
        )
        tuner = {name: fields.pop(name) for name in TUNER & fields.keys()}
        fields |= {"tuner": MILETuner(**tuner)} if tuner else {}
        budget = {"n_warmup": 30, "n_samples": 20, "n_thinning": 1, "start": start}
        return mirth.infer(
            mirth.Model(network, likelihood),
            data,
            mirth.MILE(**(budget | fields)),
            num_chains=num_chains,
            seed=seed,
            validation=0.3,
            verbose=verbose,
            monitors=monitors,
            run=mirth.Run(
                out,
                checkpoint_seconds,
                draws_store,
                max_time,
                placement=Placement(tuple(jax.local_devices()[:num_devices]), sequential),
                chunk_steps=chunk_steps,
                data_block_size=data_block_size,
            ),
        )

    return infer
