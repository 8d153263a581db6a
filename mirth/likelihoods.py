"""What a target is, given what the network says of its row.

A likelihood owns its link and is written once: loss, sampler, predictive distribution and scores
call the same methods. Every one of them is named (``likelihood="student_t"``) where an estimator or
a configuration asks for one, and is an object where its settings are wanted
(``mirth.likelihoods.StudentT(min_scale=0.01)``). ``docs/likelihoods.md`` says which is for which
target. One of your own derives from :class:`NumericLikelihood` for numbers and from
:class:`ClassLikelihood` for classes.

Examples
--------
>>> import mirth
>>> sorted(mirth.likelihoods.CLASSIFICATION)
['bernoulli', 'categorical', 'ordinal']
>>> mirth.likelihoods.Normal().num_outputs
2
"""

from mirth.model.likelihoods import *  # noqa: F403
from mirth.model.likelihoods import __all__ as __all__
