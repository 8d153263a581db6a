"""Functions with weights: what maps a row to the parameters of its distribution.

:class:`MLP` is for tables and the fastest, because it has compiled derivatives of its own.
:class:`LeNet`, :class:`ResNet7` and :class:`ResNet18` are for images. Networks of other libraries
come in by an adapter (:class:`EquinoxNetwork`, :class:`FlaxLinenNetwork`, :class:`FlaxNnxNetwork`),
plain functions by :class:`FunctionalNetwork`. Anything with the two methods of :class:`Network` is
one. ``docs/networks.md`` has an example of each.

Examples
--------
>>> import mirth
>>> mirth.networks.MLP((16, 16), num_outputs=2).hidden_layer_sizes
(16, 16)
"""

from mirth.model import (
    ACTIVATIONS,
    MLP,
    EquinoxNetwork,
    FlaxLinenNetwork,
    FlaxNnxNetwork,
    FunctionalNetwork,
    LeNet,
    Network,
    ResNet7,
    ResNet18,
)

__all__ = [
    "ACTIVATIONS",
    "EquinoxNetwork",
    "FlaxLinenNetwork",
    "FlaxNnxNetwork",
    "FunctionalNetwork",
    "LeNet",
    "MLP",
    "Network",
    "ResNet18",
    "ResNet7",
]
