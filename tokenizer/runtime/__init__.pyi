from .devices import autocast, choose_device, choose_precision, dtype_of, explain_error, processor_count
from .distributed import (
    any_over_ranks,
    average_gradients,
    from_first_rank,
    gather_rows,
    max_over_ranks,
    object_from_first_rank,
    process_group,
    rank,
    sum_over_ranks,
    world_size,
)
from .launcher import Launch, choose_share, launch
from .memory import PeakMemory
from .progress import Track, untracked
from .shared import SharedContext

__all__ = [
    "Launch",
    "PeakMemory",
    "SharedContext",
    "Track",
    "any_over_ranks",
    "autocast",
    "average_gradients",
    "choose_device",
    "choose_precision",
    "choose_share",
    "dtype_of",
    "explain_error",
    "from_first_rank",
    "gather_rows",
    "launch",
    "max_over_ranks",
    "object_from_first_rank",
    "process_group",
    "processor_count",
    "rank",
    "sum_over_ranks",
    "untracked",
    "world_size",
]
