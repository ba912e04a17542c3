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
from .private_apis import cpu_multiplies_bfloat16, is_compiler_error, lerp_all_, pillow_library
from .shared import SharedContext

__all__ = [
    "Launch",
    "PeakMemory",
    "SharedContext",
    "any_over_ranks",
    "autocast",
    "average_gradients",
    "choose_device",
    "choose_precision",
    "choose_share",
    "cpu_multiplies_bfloat16",
    "dtype_of",
    "explain_error",
    "from_first_rank",
    "gather_rows",
    "is_compiler_error",
    "launch",
    "lerp_all_",
    "max_over_ranks",
    "object_from_first_rank",
    "pillow_library",
    "process_group",
    "processor_count",
    "rank",
    "sum_over_ranks",
    "world_size",
]
