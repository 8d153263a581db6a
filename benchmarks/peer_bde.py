"""One fit of the peer ``bde``, run in the peer's own environment; prints one line of JSON.

Called by ``against_bde.py`` as
``python peer_bde.py ROWS.npz SEED WARMUP SAMPLING THIN ACTIVATION``.
"""

from __future__ import annotations

import json
import os
import sys
import time

# The peer's own instructions for using all cores.
os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count={os.cpu_count()}")

import numpy as np
from bde import BdeRegressor


def main() -> None:
    """Fit, time, predict, score."""
    path, (seed, warmup, sampling, thin) = sys.argv[1], map(int, sys.argv[2:6])
    rows = np.load(path)
    model = BdeRegressor(
        n_members=10,
        hidden_layers=[16, 16, 16, 16],
        activation=sys.argv[6],
        seed=seed,
        epochs=1200,
        patience=20,
        lr=1e-3,
        n_samples=sampling,
        n_thinning=thin,
        warmup_steps=warmup,
    )
    seconds = {"chains": 0.0}
    for name in ("_warmup_sampler", "_draw_samples"):
        _time_method(model, name, seconds)
    began = time.perf_counter()
    model.fit(x=rows["x_train"], y=rows["y_train"])
    fit_seconds = time.perf_counter() - began
    mean, std = model.predict(rows["x_test"], mean_and_std=True)
    result = {
        "mean": np.asarray(mean).ravel().tolist(),
        "std": np.asarray(std).ravel().tolist(),
        "fit_seconds": fit_seconds,
        "chain_seconds": seconds["chains"],
    }
    print("RESULT " + json.dumps(result))


def _time_method(model: BdeRegressor, name: str, seconds: dict[str, float]) -> None:
    """Add the time that a method takes to ``seconds``."""
    import jax

    method = getattr(model, name)

    def timed(*args: object, **kwargs: object) -> object:
        began = time.perf_counter()
        result = jax.block_until_ready(method(*args, **kwargs))
        seconds["chains"] += time.perf_counter() - began
        return result

    setattr(model, name, timed)


if __name__ == "__main__":
    main()
