"""ResNet-7 on the digits of scikit-learn: pSMILE and the ensemble that it starts from.

python benchmarks/digits.py [--members 2 --warmup 600 ...]
"""

from __future__ import annotations

import argparse

import jax
import numpy as np
from common import save_result
from fashion_mnist import scores
from sklearn.datasets import load_digits

import mirth


def main() -> None:
    """Fit, sample and score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=15, help="most epochs of the start")
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--thinning", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--save", help="name of the result file")
    args = parser.parse_args()
    x, y = load_digits(return_X_y=True)
    images = x.reshape(-1, 8, 8, 1).repeat(2, axis=1).repeat(2, axis=2)
    order = np.random.default_rng(args.seed).permutation(len(y))
    ends = [int(share * len(y)) for share in (0.7, 0.8)]
    train, validation, test = (
        mirth.Dataset(images[rows], y[rows]) for rows in np.split(order, ends)
    )
    network = mirth.networks.ResNet7(
        num_outputs=10, mean=float(train.x.mean()), std=float(train.x.std())
    )
    model = mirth.Model(network, mirth.Categorical(num_classes=10))
    method = mirth.SMILE(
        n_warmup=args.warmup,
        n_samples=args.samples,
        n_thinning=args.thinning,
        batch_size=args.batch_size,
        use_validation_rows=False,
        start=mirth.DeepEnsemble(learning_rate=1e-3, max_epochs=args.epochs, patience=5),
    )
    posterior = mirth.infer(
        model, train, method, num_chains=args.members, seed=args.seed, validation=validation,
        keep=mirth.Keep(dtype="float16"), verbose=2,
    )  # fmt: skip
    size = sum(leaf[0, 0].size for leaf in jax.tree.leaves(posterior.draws))
    print(f"{size} parameters, {posterior.num_gradients} gradients,", posterior.seconds)
    table = {"deep_ensemble": posterior.start_as_posterior(), "psmile": posterior}
    result = {name: scores(model, found, test) for name, found in table.items()}
    for name, row in result.items():
        print(f"{name:14s}", "  ".join(f"{key} {value:.4f}" for key, value in row.items()))
    if args.save:
        print(save_result(args.save, {"arguments": vars(args), "table": result}))


if __name__ == "__main__":
    main()
