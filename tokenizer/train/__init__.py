"""Training: `plan` looks at the data, `begin` or `resume` makes a state, `train` yields the steps."""

from tokenizer.train.evaluation import Evaluation
from tokenizer.train.loop import HELD_OUT, Step, train
from tokenizer.train.plan import Plan, plan
from tokenizer.train.saves import read as read_state
from tokenizer.train.start import begin, clear, identify, resume
from tokenizer.train.state import Saved, TrainingState

__all__ = [
    "HELD_OUT",
    "Evaluation",
    "Plan",
    "Saved",
    "Step",
    "TrainingState",
    "begin",
    "clear",
    "identify",
    "plan",
    "read_state",
    "resume",
    "train",
]
