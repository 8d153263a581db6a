"""Who hears of a run while it goes on.

Every monitor of ``infer(monitors=[...])``, or of an estimator, is told of the optimisation, the
tuning and the sampling as they happen: :class:`TensorBoardMonitor` and :class:`MLflowMonitor` write
to those tools. One of your own derives from :class:`Monitor` and overrides what it wants to hear;
the health of the chains arrives as a :class:`ChainsReport`. From outside, :func:`mirth.read_status`
reads a run directory and gives a :class:`RunStatus`.

Examples
--------
>>> import mirth
>>> class Quiet(mirth.monitors.Monitor):
...     pass
>>> isinstance(Quiet(), mirth.monitors.Monitor)
True
"""

from mirth.inference import (
    ChainsReport,
    MLflowMonitor,
    Monitor,
    RunStatus,
    TensorBoardMonitor,
)

__all__ = [
    "ChainsReport",
    "MLflowMonitor",
    "Monitor",
    "RunStatus",
    "TensorBoardMonitor",
]
