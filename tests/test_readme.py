"""The examples of the README run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(heading: str) -> str:
    """Python code of a section."""
    section = README.split(f"### {heading}\n", 1)[1].split("\n### ", 1)[0]
    return "\n".join(re.findall(r"```python\n(.*?)```", section, flags=re.S))


def test_your_own_network() -> None:
    code = blocks("Your own network, likelihood, prior")
    code = code.replace("n_warmup=2_000, n_samples=100", "n_warmup=50, n_samples=20")
    names: dict[str, object] = {}
    exec(code, names)
    assert names["posterior"].num_draws == 20  # type: ignore[attr-defined]


def test_the_sampler_alone() -> None:
    names: dict[str, object] = {}
    exec("import jax, mirth\nimport jax.numpy as jnp\n" + blocks("The sampler alone"), names)
    assert not names["info"].is_divergent  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_table_and_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, object] = {}
    exec(blocks("A table, as a scikit-learn object").replace("verbose=1", "verbose=0"), names)
    assert names["interval"].shape == (111, 2)  # type: ignore[attr-defined]
    monkeypatch.chdir(tmp_path)
    exec(blocks("Keep and ship"), names)
    assert {path.name for path in tmp_path.iterdir()} == {"model.mirth", "model.stablehlo"}
