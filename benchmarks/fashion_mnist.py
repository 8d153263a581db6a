"""Fashion-MNIST with LeNet: pSMILE and the deep ensemble that it starts from.

    python benchmarks/fashion_mnist.py --data DATA_FOLDER [--members 2 --warmup 3000 ...]

The split of arXiv 2602.06500: 70 / 15.7 / 14.3 % of all 70 000 images. The defaults are a budget
for two cores; ``--full`` is the published one, for an accelerator. Prints log predictive density,
accuracy and calibration error of the test images, with the time.
"""

from __future__ import annotations

import argparse
import gzip
import time
from pathlib import Path

import numpy as np
from common import save_result

import mirth
from mirth.evaluation import expected_calibration_error

SHARES = (0.7, 0.85715)
FULL = {"members": 8, "epochs": 200, "patience": 20, "warmup": 5000, "samples": 100,
        "thinning": 100}  # fmt: skip


def read_images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read all images (rows, 28, 28, 1) as bytes, and their labels, training files first."""
    images, labels = [], []
    for part in ("train", "t10k"):
        with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
            images.append(np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1))
        with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
            labels.append(np.frombuffer(file.read(), np.uint8, offset=8))
    return np.concatenate(images), np.concatenate(labels).astype(np.int32)


def split(folder: Path, seed: int) -> list[mirth.Dataset]:
    """Give training, validation and test images, with pixels from 0 to 1."""
    images, labels = read_images(folder)
    order = np.random.default_rng(seed).permutation(len(images))
    ends = [int(share * len(order)) for share in SHARES]
    return [mirth.Dataset(images[rows] / 255, labels[rows]) for rows in np.split(order, ends)]


def scores(model: mirth.Model, posterior: mirth.Posterior, test: mirth.Dataset) -> dict[str, float]:
    """Score the pooled predictions of the test images."""
    began = time.perf_counter()
    predictive = mirth.make_predictive(model, posterior.draws, test.x)
    probabilities = predictive.probabilities()
    return {
        "lppd": float(np.log(probabilities[np.arange(len(test)), test.y]).mean()),
        "accuracy": float(np.mean(probabilities.argmax(axis=1) == test.y)),
        "ece": expected_calibration_error(test.y, probabilities),
        "predict_seconds": time.perf_counter() - began,
    }


def main() -> None:
    """Fit, sample and score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="folder with the benchmark files")
    parser.add_argument("--full", action="store_true", help="the published budget")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10, help="most epochs of the start")
    parser.add_argument("--patience", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=2000, help="steps, of one gradient each")
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--thinning", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--energy", type=float, default=0.002, help="target of the energy error")
    parser.add_argument("--save", help="name of the result file")
    args = parser.parse_args()
    if args.full:
        vars(args).update(FULL)
    train, validation, test = split(args.data / "fashion_mnist", args.seed)
    network = mirth.networks.LeNet(
        num_outputs=10, mean=float(train.x.mean()), std=float(train.x.std())
    )
    model = mirth.Model(network, mirth.Categorical(num_classes=10))
    start = mirth.DeepEnsemble(
        learning_rate=1e-3, weight_decay=0.02, max_epochs=args.epochs, patience=args.patience
    )
    method = mirth.SMILE(
        n_warmup=args.warmup,
        n_samples=args.samples,
        n_thinning=args.thinning,
        batch_size=args.batch_size,
        energy_variance_end=args.energy,
        use_validation_rows=False,
        start=start,
    )
    posterior = mirth.infer(
        model, train, method, num_chains=args.members, seed=args.seed, validation=validation,
        verbose=2,
    )  # fmt: skip
    table = {"deep_ensemble": posterior.start_as_posterior(), "psmile": posterior}
    result = {name: scores(model, found, test) for name, found in table.items()}
    print(posterior.seconds, posterior.num_gradients, "gradients", *posterior.notes)
    print("step sizes", posterior.tuning.step_size, "energy", posterior.tuning.energy_variance)
    for name, row in result.items():
        print(f"{name:14s}", "  ".join(f"{key} {value:.4f}" for key, value in row.items()))
    if args.save:
        seconds = {"seconds": posterior.seconds, "gradients": posterior.num_gradients}
        arguments = vars(args) | {"data": str(args.data.name)}
        print(save_result(args.save, {"arguments": arguments, **seconds, "table": result}))


if __name__ == "__main__":
    main()
