"""The functions behind the commands, one each: plain values in, the result out.

Nothing heavy is imported until a function is called. Each writes into the folder ``out`` that it is given and resumes
what that folder holds: calling it again with the same settings computes only what is missing. All raise SlmlpError,
one line that names the culprit and the fix, for bad input.
"""

from slmlp.api.comparisons import advise, compare, detect, study, suite
from slmlp.api.encoders import evaluate, export, features, measure, split
from slmlp.api.training import pretrain, resume

__all__ = [
    "advise",
    "compare",
    "detect",
    "evaluate",
    "export",
    "features",
    "measure",
    "pretrain",
    "resume",
    "split",
    "study",
    "suite",
]
