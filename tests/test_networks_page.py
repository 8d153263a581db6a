"""The examples of docs/networks.md run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "networks.md").read_text(encoding="utf-8")


def run(heading: str, *replacements: tuple[str, str]) -> dict[str, Any]:
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, flags=re.S)
    for before, after in replacements:
        assert before in code
        code = code.replace(before, after)
    # Flax looks up the module of a class.
    names: dict[str, Any] = {"__name__": __name__}
    exec(code, names)
    return names


@pytest.mark.parametrize("heading", ["Equinox", "Flax Linen", "Flax NNX"])
def test_adapters(heading: str) -> None:
    model = run(heading)["model"]
    params = model.init(jax.random.key(0), jnp.ones((5, 3)))
    assert model.outputs(params, jnp.ones((5, 3))).shape == (5, 2)


def test_images() -> None:
    short = ("n_warmup=2_000, n_samples=100", "n_warmup=50, n_samples=10")
    start = ("10)\n", "10, start=mirth.DeepEnsemble(learning_rate=0.01, max_epochs=10))\n")
    names = run("Images", short, start)
    assert names["probabilities"].shape == (237, 3)
