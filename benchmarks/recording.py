"""What a run directory costs: sampling with and without one, in alternation in one process.

    python benchmarks/recording.py [--pairs 5] [--hidden 16 16 16 16] [--rows 1202]

Times are those of the sampling phase, after both programs have been compiled, with the default
chunks and the default time between checkpoints.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from common import save_result

import mirth


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--hidden", type=int, nargs="+", default=[16, 16, 16, 16])
    parser.add_argument("--rows", type=int, default=1202)
    parser.add_argument("--samples", type=int, default=500, help="draws per chain")
    parser.add_argument("--thin", type=int, default=10)
    parser.add_argument("--checkpoint-seconds", type=float, default=30.0)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(args.rows, 5))
    data = mirth.Dataset(x, np.sin(x[:, 0]) + 0.1 * rng.normal(size=args.rows))
    model = mirth.Model(mirth.MLP(tuple(args.hidden), num_outputs=2), mirth.Normal())
    method = mirth.MILE(
        n_warmup=200,
        n_samples=args.samples,
        n_thinning=args.thin,
        tuner=mirth.samplers.MILETuner(max_params=100),
        start=mirth.DeepEnsemble(max_epochs=5),
    )
    times: dict[str, list[float]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as folder:
        for pair in range(args.pairs + 1):
            for name in times:
                out = Path(folder, str(pair)) if name == "with" else None
                posterior = mirth.infer(
                    model,
                    data,
                    method,
                    run=mirth.Run(out, checkpoint_seconds=args.checkpoint_seconds),
                )
                if pair:  # the first pair warms up
                    times[name].append(posterior.seconds["sampling"])
                    print(f"{name:8s} {times[name][-1]:7.3f} s", flush=True)
    ratios = np.array(times["with"]) / np.array(times["without"])
    num_params = posterior.positions().shape[2]
    print(f"{num_params} parameters: median ratio {np.median(ratios):.4f} of {len(ratios)} pairs")
    if args.save:
        result = {"arguments": vars(args), "times": times, "median_ratio": float(np.median(ratios))}
        print(save_result(f"recording_{num_params}", result))


if __name__ == "__main__":
    main()
