"""Makes chains happen: warm start, tuning, the chunked compiled loop, devices."""

from mirth.inference.engine.placement import Placement, configure_cpu_devices
from mirth.inference.infer import continue_at_half, infer
from mirth.inference.methods.auto import Auto
from mirth.inference.methods.mile import MILE
from mirth.inference.methods.names import METHODS, resolve_method
from mirth.inference.methods.sampling import Sampling
from mirth.inference.methods.sgmcmc import SGMCMC
from mirth.inference.methods.smile import SMILE
from mirth.inference.monitors.monitor import ChainsReport, Monitor
from mirth.inference.monitors.trackers import MLflowMonitor, TensorBoardMonitor
from mirth.inference.posterior import Continuation, Posterior, join_chains
from mirth.inference.reports import TuningReport, ValidationScores, WarmStartReport
from mirth.inference.settings import Keep, Run
from mirth.inference.start.deep_ensemble import DeepEnsemble
from mirth.inference.store.run_folder import RunFolderError
from mirth.inference.store.run_status import RunStatus, read_status

__all__ = [
    "METHODS",
    "MILE",
    "SGMCMC",
    "SMILE",
    "Auto",
    "ChainsReport",
    "Continuation",
    "DeepEnsemble",
    "Keep",
    "MLflowMonitor",
    "Monitor",
    "Placement",
    "Posterior",
    "Run",
    "RunFolderError",
    "RunStatus",
    "Sampling",
    "TensorBoardMonitor",
    "TuningReport",
    "ValidationScores",
    "WarmStartReport",
    "configure_cpu_devices",
    "continue_at_half",
    "infer",
    "join_chains",
    "read_status",
    "resolve_method",
]
