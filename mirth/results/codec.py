"""Objects as JSON plus named arrays, and back: what a saved model is made of.

Text, numbers, booleans, None, lists and dictionaries stand for themselves. A tuple is
``{"tuple": [...]}``, a dictionary whose keys are not all text ``{"items": [...]}``, an array of
numbers ``{"array": name, "dtype": type}``, one of labels ``{"labels": [...], "dtype": type}``, a
member of an enumeration ``{"enum": class, "member": name}``, an object of :func:`known_types`
``{"object": class, "fields": {...}}``. Reading runs no code but the constructors of these classes.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

import ml_dtypes  # a part of JAX: the 16-bit types that NumPy does not have
import numpy as np

import mirth.data
import mirth.inference
import mirth.model
from mirth.core.outcomes import ChainVerdict
from mirth.core.stored import StoredArray
from mirth.results.compression import CompressionReport
from mirth.results.conformal import IntervalCalibration, SetCalibration
from mirth.results.diagnostics import Diagnostics
from mirth.samplers import MILETuner

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def known_types() -> dict[str, type]:
    """Give the classes that can be saved, by name.

    They are the public dataclasses of the model, the data and the inference, and what is found out
    about the chains. Classes of one's own are not among them: who loads the file might not
    have their code.

    Examples
    --------
    >>> "NormalPrior" in known_types()
    True
    """
    public = [
        getattr(module, name)
        for module in (mirth.model, mirth.data, mirth.inference)
        for name in module.__all__
    ]
    kinds = [thing for thing in public if isinstance(thing, type)]
    kinds = [kind for kind in kinds if dataclasses.is_dataclass(kind)]
    kept = (
        MILETuner,
        CompressionReport,
        Diagnostics,
        ChainVerdict,
        IntervalCalibration,
        SetCalibration,
    )
    return {kind.__name__: kind for kind in (*kinds, *kept)}


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
        value = np.asarray(value)  # a saved model needs no other folder
    if isinstance(value, np.ndarray):
        return _encode_array(value, path, arrays)
    if type(value) is tuple or isinstance(value, list):  # one with named fields would lose them
        items = [encode(item, f"{path}/{k}", arrays) for k, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: encode(item, f"{path}/{key}", arrays) for key, item in value.items()}
    if isinstance(value, dict):  # labels of any type, which JSON would turn into text
        return {"items": encode(list(value.items()), path, arrays)}
    name = type(value).__name__
    if known_types().get(name) is not type(value):
        raise TypeError(
            f"{path} holds {value!r}, which cannot be saved: the file has no code, only parameters "
            f"of mirth's own classes. Beside the code of {name}, keep it by pickle where that "
            "takes it, or in a run directory, from which the same call gives the draws back. A "
            "program written by export needs no code."
        )
    if isinstance(value, enum.Enum):
        return {"enum": name, "member": value.name}
    known: Any = value
    fields = {
        field.name: encode(getattr(value, field.name), f"{path}/{field.name}", arrays)
        for field in dataclasses.fields(known)
        if field.init
    }
    return {"object": name, "fields": fields}


def _encode_array(value: np.ndarray, path: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if value.dtype == _BFLOAT16:  # NumPy's format has no name for it
        arrays[path] = value.view(np.uint16)
        return {"array": path, "dtype": "bfloat16"}
    if value.dtype.kind in "biuf":
        arrays[path] = value
        return {"array": path, "dtype": value.dtype.str}
    labels = value.tolist()
    if value.ndim != 1 or not all(isinstance(label, str | bool | int | float) for label in labels):
        raise TypeError(
            f"{path} has labels of type {type(np.ravel(value)[0]).__name__}, which cannot be "
            "saved; use text or numbers."
        )
    return {"labels": labels, "dtype": value.dtype.str if value.dtype.kind != "O" else "object"}


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
    if record.keys() == {"array", "dtype"}:
        found = arrays[record["array"]]
        return found.view(_BFLOAT16) if record["dtype"] == "bfloat16" else found
    if record.keys() == {"labels", "dtype"}:
        return np.asarray(record["labels"], dtype=record["dtype"])
    if record.keys() == {"enum", "member"}:
        return getattr(known_types()[record["enum"]], record["member"])
    if record.keys() == {"tuple"}:
        return tuple(decode(record["tuple"], arrays))
    if record.keys() == {"items"}:
        return dict(decode(record["items"], arrays))
    if record.keys() == {"object", "fields"}:
        fields = {name: decode(item, arrays) for name, item in record["fields"].items()}
        return known_types()[record["object"]](**fields)
    return {name: decode(item, arrays) for name, item in record.items()}
