"""Makes chains happen: warm start, tuning, the chunked compiled loop, devices."""

from mirth.inference.auto import Auto
from mirth.inference.deep_ensemble import DeepEnsemble
from mirth.inference.infer import METHODS, infer, resolve_method
from mirth.inference.mile import MILE
from mirth.inference.monitor import ChainsReport, Monitor
from mirth.inference.placement import Placement, configure_cpu_devices
from mirth.inference.posterior import Continuation, Posterior, TuningReport, join_chains
from mirth.inference.run_folder import RunFolderError
from mirth.inference.sampling import Sampling
from mirth.inference.sgmcmc import SGMCMC
from mirth.inference.smile import SMILE
from mirth.inference.trackers import MLflowMonitor, TensorBoardMonitor
from mirth.inference.warm_start import WarmStartReport

__all__ = [
    "METHODS",
    "MILE",
    "SGMCMC",
    "SMILE",
    "Auto",
    "ChainsReport",
    "Continuation",
    "DeepEnsemble",
    "MLflowMonitor",
    "Monitor",
    "Placement",
    "Posterior",
    "RunFolderError",
    "Sampling",
    "TensorBoardMonitor",
    "TuningReport",
    "WarmStartReport",
    "configure_cpu_devices",
    "infer",
    "join_chains",
    "resolve_method",
]
