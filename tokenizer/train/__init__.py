"""Training. `run_training` is a whole run.

Its parts: `new_settings` makes settings of what was given, `plan_run` looks at the data and the machine, `begin_run` or
`resume_run` makes a state, `train` yields the steps.
"""

from __future__ import annotations

from tokenizer.train.evaluation import Evaluation
from tokenizer.train.init_from import init_settings
from tokenizer.train.loop import VALIDATION_FILE, Step, train
from tokenizer.train.metrics_log import METRICS_FILE, MetricsLog
from tokenizer.train.planning import Plan, plan_run
from tokenizer.train.preflight import CostEstimate, ImageSample, estimate_cost, look_at_images
from tokenizer.train.saved_states import clear_states, has_states, read_newest_state
from tokenizer.train.settings import new_settings, resumed_settings
from tokenizer.train.start import begin_run, clear_run, identify_images, resume_run
from tokenizer.train.state import Saved, TrainingState
from tokenizer.train.training_run import PlannedTraining, Run, plan_training, run_training
from tokenizer.train.validation import no_validation_images, validation_batches

__all__ = [
    "METRICS_FILE",
    "VALIDATION_FILE",
    "CostEstimate",
    "Evaluation",
    "ImageSample",
    "MetricsLog",
    "Plan",
    "PlannedTraining",
    "Run",
    "Saved",
    "Step",
    "TrainingState",
    "begin_run",
    "clear_run",
    "clear_states",
    "estimate_cost",
    "has_states",
    "identify_images",
    "init_settings",
    "look_at_images",
    "new_settings",
    "no_validation_images",
    "plan_run",
    "plan_training",
    "read_newest_state",
    "resume_run",
    "resumed_settings",
    "run_training",
    "train",
    "validation_batches",
]
