"""Training: `plan` looks at the data, `begin` or `resume` makes a state, `train` yields the steps."""

from tokenizer.train.evaluation import Evaluation
from tokenizer.train.loop import HELD_OUT, Step, begin, identify, resume, train
from tokenizer.train.plan import Plan, plan
from tokenizer.train.state import Saved, TrainingState
from tokenizer.train.state import read as read_state

__all__ = [
    "HELD_OUT",
    "Evaluation",
    "Plan",
    "Saved",
    "Step",
    "TrainingState",
    "begin",
    "identify",
    "plan",
    "read_state",
    "resume",
    "train",
]
