"""Objects as JSON plus named arrays, and back: what a saved estimator is made of.

Text, numbers, booleans, None, lists and dictionaries stand for themselves. A tuple is
``{"tuple": [...]}``, a dictionary whose keys are not all text ``{"items": [...]}``, an array
``{"array": name}``, an object of :data:`KNOWN` ``{"object": class, "fields": {...}}``. Reading runs
no code but the constructors listed here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from mirth.core.stored import StoredArray
from mirth.data import Standardizer
from mirth.estimators.conformal import IntervalCalibration, SetCalibration
from mirth.inference import MILE, DeepEnsemble, Posterior, TuningReport, WarmStartReport
from mirth.model import MLP, PRIORS, Independent, Model, PriorMap
from mirth.model.likelihoods import CLASSIFICATION, REGRESSION

KNOWN: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        MILE,
        MLP,
        DeepEnsemble,
        Independent,
        IntervalCalibration,
        Model,
        *PRIORS.values(),
        Posterior,
        PriorMap,
        SetCalibration,
        Standardizer,
        TuningReport,
        WarmStartReport,
        *REGRESSION.values(),
        *CLASSIFICATION.values(),
    )
}
"""Dataclasses that can be saved, by name."""


def encode(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """Turn a value into JSON; its arrays go to ``arrays``, named by their path.

    Parameters
    ----------
    value : any
        What to save.
    path : str
        Where it stands, such as ``"posterior/draws"``.
    arrays : dict
        Receives the arrays.

    Returns
    -------
    any
        What ``json`` can write.

    Raises
    ------
    TypeError
        If something cannot be saved; the text names the path.

    Examples
    --------
    >>> from mirth.model import NormalPrior
    >>> encode((1, NormalPrior(scale=0.5)), "x", {})
    {'tuple': [1, {'object': 'NormalPrior', 'fields': {'scale': 0.5}}]}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return encode(value.item(), path, arrays)
    if isinstance(value, StoredArray):
        value = np.asarray(value)  # a saved estimator needs no other folder
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        arrays[path] = value
        return {"array": path}
    if isinstance(value, tuple | list):
        items = [encode(item, f"{path}/{k}", arrays) for k, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: encode(item, f"{path}/{key}", arrays) for key, item in value.items()}
    if isinstance(value, dict):  # labels of any type, which JSON would turn into text
        return {"items": encode(list(value.items()), path, arrays)}
    name = type(value).__name__
    if KNOWN.get(name) is not type(value):
        raise TypeError(
            f"{path} holds {value!r}, which cannot be saved; known are text, numbers, arrays and "
            f"{', '.join(KNOWN)}."
        )
    known: Any = value
    fields = {
        field.name: encode(getattr(value, field.name), f"{path}/{field.name}", arrays)
        for field in dataclasses.fields(known)
        if field.init
    }
    return {"object": name, "fields": fields}


def decode(record: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Turn the result of :func:`encode` back into the value.

    Parameters
    ----------
    record : any
        What ``encode`` has returned.
    arrays : mapping
        The arrays by name.

    Returns
    -------
    any
        The value.

    Raises
    ------
    KeyError
        If an array or a class is unknown.

    Examples
    --------
    >>> from mirth.model import NormalPrior
    >>> decode(encode((1, NormalPrior(scale=0.5)), "x", {}), {})
    (1, NormalPrior(scale=0.5))
    """
    if isinstance(record, list):
        return [decode(item, arrays) for item in record]
    if not isinstance(record, dict):
        return record
    if record.keys() == {"array"}:
        return arrays[record["array"]]
    if record.keys() == {"tuple"}:
        return tuple(decode(record["tuple"], arrays))
    if record.keys() == {"items"}:
        return dict(decode(record["items"], arrays))
    if record.keys() == {"object", "fields"}:
        fields = {name: decode(item, arrays) for name, item in record["fields"].items()}
        return KNOWN[record["object"]](**fields)
    return {name: decode(item, arrays) for name, item in record.items()}
