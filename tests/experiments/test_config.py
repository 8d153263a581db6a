"""The configuration: every field is checked, read, written, overridden and explained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mirth
from mirth.core.config import ConfigError
from mirth.estimators._checks import ESTIMATOR_PRIORS
from mirth.experiments.config import (
    METHOD_SECTIONS,
    PRIOR_SECTIONS,
    RunConfig,
    Section,
    parse_config,
)
from mirth.experiments.config_files import (
    example_yaml,
    read_config,
    with_override,
    write_config,
)
from mirth.experiments.documentation import parameters
from mirth.inference import METHODS
from mirth.model import PRIORS

DATA = {"path": "houses.csv", "target": "price"}

# For each field: a value of a wrong type, and one out of range (None: there is no range).
START = {
    "learning_rate": ("fast", 0.0),
    "weight_decay": ("some", -1.0),
    "batch_size": (1.5, 0),
    "max_epochs": ("many", 0),
    "patience": (True, 0),
}
TUNER = {
    "num_steps": (1.5, -1),
    "energy_variance_start": ("small", 0.0),
    "energy_variance_end": ([0.1], -0.1),
    "phase_fractions": (0.5, [0.5, 0.1, 0.1]),
    "trust": (False, -1),
    "num_effective": (None, 1.0),
    "L_factor": ("x", float("inf")),
    "max_params": (2.5, 0),
    "max_kept": ("10", 3),
    "cap_shrink": ("x", 1.0),
    "cap_growth": ("x", 0.5),
    "diagonal_preconditioning": (1, None),
}
MILE = {
    "name": (3, "mill"),
    "n_warmup": (1.5, -1),
    "n_samples": ("200", 0),
    "n_thinning": (True, 0),
    "step_size_init": ("1", 0.0),
    "integrator": (7, "leap"),
    "use_validation_rows": ("yes", None),
    "budget": (1, "automatic"),
    "min_gain": ("x", -0.1),
    "min_effective": ("x", -1.0),
    "unhealthy_chains": (0, "drops"),
    "start": ("deep_ensemble", None),
    "tuner": ("mile", None),
}
CASES = {
    "data": ("houses.csv", None),
    "data.path": (3, None),
    "data.target": (True, None),
    "data.drop": ("id", [3]),
    "data.test_fraction": ("0.2", 1.0),
    "data.validation_fraction": ("x", float("nan")),
    "task": (1, "regresion"),
    "model": ([16, 16], None),
    "model.hidden_layer_sizes": (16, [16, 0]),
    "model.activation": (1, "rleu"),
    "model.likelihood": (1, "norml"),
    "model.prior": ("normal", None),
    "model.prior.name": (3, "nromal"),
    "model.prior.noisy_scale": ("wide", 0),
    "model.prior.smooth_scale": (True, -1.0),
    "model.normalize_y": (1, None),
    "model.resolution": (True, 0.0),
    "model.robust_scaling": (1, None),
    "method": ("mile", None),
    **{f"method.{name}": case for name, case in MILE.items()},
    **{f"method.start.{name}": case for name, case in START.items()},
    **{f"method.tuner.{name}": case for name, case in TUNER.items()},
    "n_members": (2.0, 0),
    "seed": ("0", -1),
    "checkpoint_seconds": ("30", -1.0),
    "max_time": ([1], "soon"),
    "draws_store": (3, None),
    "weights": (1, "stacked"),
    "bias_check": (2, None),
    "track": ("tensorboard", ["tensorboard", "mlfow"]),
}
ENSEMBLE_CASES = {f"method.{name}": case for name, case in START.items()}


def paths(section: Any, prefix: str = "") -> Iterator[str]:
    """Dotted paths of all fields."""
    for name in type(section).model_fields:
        yield prefix + name
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from paths(value, f"{prefix}{name}.")


def at(path: str, value: Any, method: str = "mile") -> dict[str, Any]:
    """A configuration that is right but for one value."""
    record: dict[str, Any] = {"data": dict(DATA), "method": {"name": method}}
    *sections, name = path.split(".")
    place = record
    for section in sections:
        place = place.setdefault(section, {})
    place[name] = value
    return record


def problems(record: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(record)
    return caught.value.problems


def test_no_field_is_forgotten() -> None:
    assert set(paths(parse_config({"data": DATA}))) == set(CASES)
    assert {f.name for f in dataclasses.fields(mirth.MILE)} | {"name"} == set(MILE)
    assert {f.name for f in dataclasses.fields(mirth.samplers.MILETuner)} == set(TUNER)
    # A file cannot hold a function.
    fields = {f.name for f in dataclasses.fields(mirth.DeepEnsemble)}
    assert fields == set(START) | {"transform"}


TABLE = [(path, case, "mile") for path, case in CASES.items()] + [
    (path, case, "deep_ensemble") for path, case in ENSEMBLE_CASES.items()
]


@pytest.mark.parametrize(("path", "case", "method"), TABLE)
def test_wrong_values_are_named(path: str, case: tuple[Any, Any], method: str) -> None:
    for value in case:
        if value is None and path != "method.tuner.num_effective":
            continue
        (problem,) = problems(at(path, value, method))
        assert problem.startswith(path), problem
        assert "must be" in problem or "is not known" in problem
        assert "pydantic" not in problem and "\n" not in problem


@pytest.mark.parametrize(("path", "case", "method"), TABLE)
def test_misspelt_names_are_named(path: str, case: Any, method: str) -> None:
    above, dot, name = path.rpartition(".")
    wrong = f"{above}{dot}{name[:-1]}"
    found = problems(at(wrong, 1, method))
    assert f"{wrong} is not known; did you mean {path!r}?" in found


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (None, "A configuration must be named values"),
        ({}, "data is missing"),
        ({"data": {"path": "a.csv"}}, "data.target is missing. Column to predict."),
        (at("zzz", 1), "zzz is not known. Known: data, task,"),
        (at("method.n_warmup", 1, "deep_ensemble"), "method.n_warmup is not known. Known: name,"),
        (at("method.tuner.phase_fractions", [0.5, 0.5]), "=[0.5, 0.5] must have 3 values."),
        (at("method.tuner.phase_fractions", [0.2] * 4), "must have 3 values."),
        (
            at("method.tuner.phase_fractions", [1.0, "a", 0.0]),
            "method.tuner.phase_fractions.1='a' must be a",
        ),
        (at("method.name", "mill"), "method.name='mill' is not known; did you mean 'mile'?"),
        (at("model.activation", "rleu"), "did you mean 'relu'?"),
        (
            at("model.prior", {"name": "horseshoo"}),
            "model.prior.name='horseshoo' is not known; did",
        ),
        (at("model.prior", {"name": "laplace", "df": 3.0}), "model.prior.df is not known."),
        (
            at("track", ["tensorbord"]),
            "track='tensorbord' is not known; did you mean 'tensorboard'?",
        ),
        (at("n_members", 2.0), "n_members=2.0 must be a whole number."),
        (
            {"data": DATA, "method": {"n_samples": 20}, "weights": "stacking"},
            "weights='stacking' needs 25 draws per chain",
        ),
        (
            {"data": DATA, "method": {"name": "deep_ensemble"}, "bias_check": True},
            "bias_check=True needs chains; a deep_ensemble has no steps.",
        ),
    ],
)
def test_messages(record: Any, expected: str) -> None:
    (problem,) = problems(record)
    assert expected in problem


def test_all_problems_are_told_at_once() -> None:
    record = at("method.n_warmup", "x") | {"seeds": 1}
    assert [p.partition(" ")[0] for p in problems(record)] == ["method.n_warmup='x'", "seeds"]


def test_defaults_and_methods_are_those_of_the_library() -> None:
    config = parse_config({"data": DATA})
    assert config.method.build() == mirth.MILE()
    estimator = mirth.BNNRegressor()
    assert config.model.hidden_layer_sizes == estimator.hidden_layer_sizes
    assert config.n_members == estimator.n_members
    assert config.checkpoint_seconds == estimator.checkpoint_seconds
    record = {"name": "deep_ensemble", "patience": 3}
    built = parse_config({"data": DATA, "method": record}).method.build()
    assert built == mirth.DeepEnsemble(patience=3)
    nested = parse_config(
        {"data": DATA, "method": {"start": {"patience": 3}, "tuner": {"trust": 2}}}
    )
    start, tuner = mirth.DeepEnsemble(patience=3), mirth.samplers.MILETuner(trust=2.0)
    assert nested.method.build() == mirth.MILE(start=start, tuner=tuner)


@pytest.mark.parametrize(
    "record",
    [
        {"data": DATA},
        {"data": {"path": "1e3", "target": "no"}, "method": {"step_size_init": 1e-10}},
        {"data": DATA, "method": {"name": "deep_ensemble", "patience": 3}, "n_members": 2},
        {"data": DATA, "model": {"hidden_layer_sizes": [4, 3], "likelihood": "homoscedastic"}},
        {"data": DATA, "track": ["tensorboard", "mlflow"]},
    ],
)
def test_what_is_written_is_read(tmp_path: Path, record: dict[str, Any]) -> None:
    config = parse_config(record)
    write_config(tmp_path / "config.yaml", config)
    assert read_config(tmp_path / "config.yaml") == config


def test_old_names_work_and_name_the_new() -> None:
    with pytest.warns(FutureWarning, match=r"^n_effective: ... is now tuner: \{num_effective: ..."):
        config = parse_config({"data": DATA, "method": {"n_effective": 9, "tuner": {"trust": 2}}})
    tuner = mirth.samplers.MILETuner(trust=2.0, num_effective=9.0)
    assert config.method.build() == mirth.MILE(tuner=tuner)
    with pytest.warns(FutureWarning, match="trust"):
        assert problems(at("method.trust", -1.0))[0].startswith("method.tuner.trust=-1.0 must be")


def test_exponents_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "data: {path: a.csv, target: y}\nmethod: {step_size_init: 1e-3, min_gain: 2E+0}\n"
    )
    method = read_config(path).method.build()
    assert (method.step_size_init, method.min_gain) == (1e-3, 2.0)


def test_overrides(tmp_path: Path) -> None:
    write_config(tmp_path / "config.yaml", parse_config({"data": DATA}))
    config = read_config(
        tmp_path / "config.yaml",
        ["method.n_warmup=50", "method.start.learning_rate=1e-3", "data.path=a=b.csv",
         "model.hidden_layer_sizes=[4, 4]", "model.likelihood=null"],
    )  # fmt: skip
    assert config.method.build().start == mirth.DeepEnsemble(learning_rate=1e-3)
    assert config.method.build().n_warmup == 50
    assert config.data.path == "a=b.csv"
    assert config.model.hidden_layer_sizes == (4, 4)
    with pytest.raises(ConfigError, match=r"did you mean 'method\.n_warmup'"):
        read_config(tmp_path / "config.yaml", ["method.n_warmpu=50"])


@pytest.mark.parametrize(
    ("override", "message"),
    [("n_members", "must be PATH=VALUE"), ("n_members=[", "is no YAML"),
     ("seed.a=1", "'a' is no part of 0")],
)  # fmt: skip
def test_bad_overrides(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_override({"seed": 0}, override)


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("data: [")
    with pytest.raises(ConfigError, match=r"config\.yaml is no YAML: .*line 1"):
        read_config(tmp_path / "config.yaml")
    with pytest.raises(FileNotFoundError, match=r"Did you mean '.*config\.yaml'"):
        read_config(tmp_path / "confg.yaml")


def test_the_example_is_the_default_explained(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(example_yaml())
    assert read_config(path) == parse_config({"data": {"path": "data.csv", "target": "y"}})
    assert "# Draws kept per chain; 1000 in the paper.\n  n_samples: 200\n" in example_yaml()
    assert "\n  n_thinning: null\n" in example_yaml()
    assert max(map(len, example_yaml().splitlines())) <= 100


def described(schema: dict[str, Any], definition: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, field in definition["properties"].items():
        inner = schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})
        yield name, inner | field  # a description that both share is written once
        if inner:
            yield from described(schema, inner)


def test_schema_describes_every_field() -> None:
    schema = RunConfig.model_json_schema()
    fields = list(described(schema, schema))
    for name in (*METHOD_SECTIONS.values(), *PRIOR_SECTIONS.values()):
        fields += described(schema, schema["$defs"][name.__name__])
    assert len(fields) >= len(CASES)
    assert all(field.get("description") for _, field in fields), fields
    mile = schema["$defs"][METHOD_SECTIONS["mile"].__name__]
    known = dict(fields) | dict(described(schema, mile))
    assert known["integrator"]["enum"] == ["mclachlan", "leapfrog"]
    assert known["task"]["enum"] == ["auto", "regression", "classification"]
    assert known["track"]["items"]["enum"] == ["tensorboard", "mlflow"]


def bounded(schema: dict[str, Any], method: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths of all numeric fields, and what the schema says of them (or of their items)."""
    sections = {"": schema, **{
        f"{name}.": schema["$defs"][section] for name, section in (
            ("data", "DataSection"), ("model", "ModelSection"), ("model.prior", "AutoPriorSection"),
            ("method", METHOD_SECTIONS[method].__name__),
            *([("method.start", "DeepEnsembleFieldsSection")] if method != "deep_ensemble" else []),
            *([("method.tuner", "MILETunerFieldsSection")] if method == "mile" else []),
        )
    }}  # fmt: skip
    for prefix, section in sections.items():
        for name, field in section["properties"].items():
            # Of a value that may be null, the other kind.
            kind = next(k for k in field.get("anyOf", [field]) if k.get("type") != "null")
            item = (kind.get("prefixItems") or [kind.get("items", kind)])[0]
            if item.get("type") in ("integer", "number"):
                yield prefix + name, item | {"is_list": item is not kind}


def is_allowed(path: str, value: float, method: str, is_list: bool) -> bool:
    whole = value if not is_list else [value, 1.0 - value, 0.0] if "phase" in path else [value]
    try:
        parse_config(at(path, whole, method))
    except ConfigError as error:
        assert all(problem.startswith(path) for problem in error.problems), error
        return False
    return True


@pytest.mark.parametrize("name", ESTIMATOR_PRIORS)
def test_priors_by_name(name: str) -> None:
    prior = ESTIMATOR_PRIORS[name]
    section = RunConfig.model_json_schema()["$defs"][PRIOR_SECTIONS[name].__name__]
    assert set(section["properties"]) == {"name", *prior().get_params()}
    assert section["properties"].keys() >= prior.RANGES.keys()
    for field in prior.RANGES:
        assert section["properties"][field]["exclusiveMinimum"] == 0
        built = parse_config(at("model.prior", {"name": name, field: 0.25})).model.prior.build()
        assert built == prior(**{field: 0.25})
        (problem,) = problems(at("model.prior", {"name": name, field: 0.0}))
        assert problem.startswith(f"model.prior.{field}=0.0 must be")
    assert parse_config(at("model.prior", {"name": name})).model.prior.build() == prior()


def test_names_are_found_whatever_their_case() -> None:
    values = {"method": {"name": "Deep-Ensemble"}, "model": {"prior": {"name": "FAN-IN"}}}
    config = parse_config({"data": {"path": "a.csv", "target": "y"}, **values})
    assert config.method.build() == METHODS["deep_ensemble"]()
    assert config.model.prior.build() == PRIORS["fan_in"]()


METHODS_OF_SMILE = ("smile", "psmile", "smile-naive", "psmile-naive")


@pytest.mark.parametrize("method", METHOD_SECTIONS)
def test_the_schema_has_the_ranges_of_the_checks(method: str) -> None:
    fields = dict(bounded(RunConfig.model_json_schema(), method))
    numbers = {"mile": 30, "deep_ensemble": 13, "auto": 18} | dict.fromkeys(METHODS_OF_SMILE, 30)
    assert len(fields) == numbers.get(method, 23)
    for path, field in fields.items():
        lows = {"minimum", "exclusiveMinimum"} & field.keys()
        assert len(lows) == 1, path  # every number has a range
        for name in lows | ({"maximum", "exclusiveMaximum"} & field.keys()):
            bound, is_low = field[name], name in lows
            is_whole, outward = field["type"] == "integer", -1 if is_low else 1
            is_list = field["is_list"]
            at_bound = bound if is_whole else float(bound)
            assert is_allowed(path, at_bound, method, is_list) == (not name.startswith("ex")), path
            step = 1 if is_whole else 1e-9
            assert not is_allowed(path, at_bound + outward * step, method, is_list), path
            if name.startswith("ex"):
                assert is_allowed(path, at_bound - outward * 1e-9, method, is_list), path


def test_parameters_of_a_docstring() -> None:
    assert (tuner := parameters(mirth.samplers.MILETuner))["cap_shrink"] == tuner["cap_growth"]
    found = parameters(mirth.MILE)
    assert found["n_samples"].text == "Draws kept per chain; 1000 in the paper."
    assert found["integrator"].choices == ("mclachlan", "leapfrog")
    assert "ValueError" not in found
    assert parameters(test_bad_files) == {}
