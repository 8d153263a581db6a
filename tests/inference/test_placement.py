"""Where chains run, and how the number of CPU devices is chosen."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirth.core.keys import Purpose, chain_keys
from mirth.inference import Placement
from mirth.inference.engine import placement

pytestmark = pytest.mark.usefixtures("unoptimised")


def place(num_devices: int, *, sequential: bool = True) -> Placement:
    return Placement(tuple(jax.local_devices()[:num_devices]), sequential)


@pytest.mark.parametrize(
    ("num_chains", "num_devices", "expected"), [(1, 4, 4), (3, 2, 4), (4, 4, 4), (5, 1, 5)]
)
def test_devices_are_filled_up_with_the_last_chain(
    num_chains: int, num_devices: int, expected: int
) -> None:
    placement = place(num_devices)
    assert placement.padded(num_chains) == expected
    keys = chain_keys(0, Purpose.TUNING, num_chains)
    tree = placement.put_chains({"x": np.arange(2.0 * num_chains).reshape(-1, 2), "key": keys})
    assert tree["x"].shape == (expected, 2)
    assert len(tree["x"].sharding.device_set) == num_devices
    np.testing.assert_array_equal(
        tree["x"][num_chains - 1 :, 0], np.full(expected - num_chains + 1, 2.0 * num_chains - 2)
    )
    assert (tree["key"][num_chains - 1 :] == keys[-1]).all()


@pytest.mark.parametrize("sequential", [True, False])
def test_compiled_functions_are_mapped_over_chains(sequential: bool) -> None:
    placement = place(2, sequential=sequential)
    keys = chain_keys(0, Purpose.TUNING, 3)
    mapped = placement.compile(lambda carry, key, shared: carry + shared + jax.random.normal(key))
    chains = placement.put_chains(np.zeros((3, 2), np.float32))
    result = mapped(chains, placement.put_chains(keys), placement.put_shared(jnp.float32(10.0)))
    expected = 10 + np.asarray([jax.random.normal(key) for key in keys])
    np.testing.assert_allclose(result[:3], np.stack([expected] * 2, axis=1), rtol=1e-6)
    assert chains.is_deleted()  # its memory was given to the result


def test_memory_is_kept_on_demand() -> None:
    placement = place(1)
    chains = placement.put_chains(np.zeros(2, np.float32))
    keys = placement.put_chains(chain_keys(0, Purpose.TUNING, 2))
    mapped = placement.compile(lambda carry, key, shared: carry + shared, donate=False)
    mapped(chains, keys, placement.put_shared(jnp.float32(1.0)))
    assert not chains.is_deleted()


@pytest.mark.parametrize(("num_chains", "expected"), [(1, 1), (3, 3), (100, 4)])
def test_automatic_uses_at_most_a_device_per_chain(num_chains: int, expected: int) -> None:
    found = Placement.automatic(num_chains)
    assert list(found.devices) == jax.local_devices()[:expected]
    assert found.sequential is (jax.default_backend() == "cpu")


def python(script: str, **environment: str) -> list[str]:
    """Run a script in a process of its own, with three cores; give its lines."""
    keep = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    preamble = (
        "import warnings, numpy as np, jax, mirth\n"
        "import mirth.inference.engine.placement as placement\n"
        "placement.num_cores = lambda: 3\n"
        "def run(num_chains=3):\n"
        "    x = np.linspace(-1, 1, 20)[:, None]\n"
        "    model = mirth.Model(mirth.MLP((), num_outputs=2), mirth.Normal())\n"
        "    method = mirth.DeepEnsemble(max_epochs=2)\n"
        "    data = mirth.Dataset(x, x[:, 0])\n"
        "    kwargs = {'num_chains': num_chains, 'validation': 0.5}\n"
        "    with warnings.catch_warnings(record=True) as caught:\n"
        "        warnings.simplefilter('always')\n"
        "        posterior = mirth.infer(model, data, method, **kwargs)\n"
        "    assert posterior.num_chains == num_chains\n"
        "    texts = [str(w.message) for w in caught if w.category is mirth.MirthWarning]\n"
        "    return [text for text in texts if 'JAX was started' in text]\n"
    )
    environment = keep | {"JAX_PLATFORMS": "cpu"} | environment
    result = subprocess.run(
        [sys.executable, "-c", preamble + script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split("\n")[:-1]


def test_before_jax_starts_every_core_gets_a_device() -> None:
    lines = python(
        "print(run())\n"
        "print(jax.local_device_count())\n"
        "print(mirth.configure_cpu_devices(), mirth.configure_cpu_devices(5))\n"
    )
    assert lines == ["[]", "3", "True False"]


def test_after_jax_has_started_the_run_works_and_says_so_once() -> None:
    lines = python(
        "jax.numpy.zeros(1)\n"
        "print(mirth.configure_cpu_devices())\n"
        "first, second = run(), run()\n"
        "print(len(first), len(second), jax.local_device_count())\n"
        "print(first[0])\n"
    )
    assert lines[:2] == ["False", "1 0 1"]
    assert "1 CPU device(s) on 3 cores" in lines[2]
    assert "mirth.configure_cpu_devices()" in lines[2]


@pytest.mark.parametrize(
    ("script", "environment"),
    [
        ("jax.config.update('jax_num_cpu_devices', 2)\n", {}),
        pytest.param(
            "",
            {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_users_own_number_is_left_alone(script: str, environment: dict[str, str]) -> None:
    lines = python(
        script + "print(mirth.configure_cpu_devices())\nprint(jax.local_device_count())\n",
        **environment,
    )
    assert lines == ["False", "2"]


def test_the_note_is_given_by_runs_that_could_use_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four devices are here: enough for four chains, not for five on eight cores."""
    monkeypatch.setattr(placement, "num_cores", lambda: 8)
    monkeypatch.setattr(placement, "_has_noted_single_device", False)
    Placement.automatic(4)
    with pytest.warns(placement.MirthWarning, match="4 CPU device"):
        Placement.automatic(5)
    Placement.automatic(5)
