"""What is believed of the weights before the data.

A prior is a density of all parameters of the network, the same for every leaf or, by
:class:`PriorMap`, another for some of them; hierarchical ones sample their scales with the weights.
All but the map have names (:data:`PRIORS`, ``prior="horseshoe"``). The estimators' default,
:class:`AutoPrior`, chooses one by the table. ``docs/priors.md`` shows what
each of them says about functions, and how to write one: a subclass of :class:`Prior`.

Examples
--------
>>> import mirth
>>> mirth.priors.NormalPrior(scale=0.5).scale
0.5
"""

from mirth.model.priors import *  # noqa: F403
from mirth.model.priors import __all__ as __all__
