"""What a model is conditioned on: data sets, splits, scaling, tables, examples."""

from mirth.core.types import Batch
from mirth.data.batches import BATCH_ORDERS, EpochBatches
from mirth.data.columns import TRUSTED_TYPES, check_columns, column_kinds, make_preprocessor
from mirth.data.dataset import Dataset
from mirth.data.examples import (
    Example,
    breast_cancer,
    diabetes,
    heteroscedastic_gap,
    load_benchmark,
    true_quantities,
)
from mirth.data.scaling import Standardizer
from mirth.data.splits import train_validation_split
from mirth.data.streams import ArrayStream, BatchStream, Stream
from mirth.data.tables import read_table, split_target, task_of

__all__ = [
    "BATCH_ORDERS",
    "TRUSTED_TYPES",
    "ArrayStream",
    "Batch",
    "BatchStream",
    "Dataset",
    "EpochBatches",
    "Example",
    "Standardizer",
    "Stream",
    "breast_cancer",
    "check_columns",
    "column_kinds",
    "diabetes",
    "heteroscedastic_gap",
    "load_benchmark",
    "make_preprocessor",
    "read_table",
    "split_target",
    "task_of",
    "train_validation_split",
    "true_quantities",
]
