"""Which files of tests go first, and which belong to the fast selection."""

from __future__ import annotations

# Whole files are dealt out to workers in this order: the longest ones last would leave the other
# workers without work. All other files follow as they come.
LONGEST = (
    "tests/test_pages.py",
    "tests/inference/test_faults.py",
    "tests/test_cli_runs.py",
)

# Files of which `make test-fast` runs everything that is not slow: every layer, whatever compiles
# little. Of other files it runs what they mark `fast`.
FAST = (
    "tests/core/",
    "tests/data/",
    "tests/evaluation/",
    "tests/report/",
    "tests/validity/test_rank_statistics.py",
    "tests/results/test_calibration_of_posteriors.py",
    "tests/model/test_likelihoods.py",
    "tests/model/test_model.py",
    "tests/samplers/test_integrators.py",
    "tests/prediction/test_blocks.py",
    "tests/prediction/test_categorical_predictive.py",
    "tests/inference/test_infer.py",
    "tests/inference/test_monitor.py",
    "tests/inference/test_problem.py",
    "tests/estimators/test_bad_input.py",
    "tests/experiments/test_config.py",
    "tests/test_architecture.py",
    "tests/test_cli.py",
    "tests/test_public_names.py",
)
NOT_FAST = ("tests/core/test_compiled_programs.py",)  # starts an interpreter for each test


def rank(name: str) -> int:
    """Place of the file of a test; all that are not named share the last one."""
    file = name.split("::")[0]
    return LONGEST.index(file) if file in LONGEST else len(LONGEST)


def is_fast(name: str) -> bool:
    return name.startswith(FAST) and not name.startswith(NOT_FAST)


# Examples in docstrings that fit a network of their own, and whose functions docs/results.md runs.
LONG_EXAMPLES = (
    "mirth/results/compression.py",
    "mirth/results/conformal.py",
    "mirth/results/diagnostics.py",
    "mirth/results/program.py",
)


def is_long_example(name: str) -> bool:
    return name.startswith(LONG_EXAMPLES)
