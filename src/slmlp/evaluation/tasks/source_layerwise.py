"""The task ``source`` at every layer of an encoder; the engine does ``run`` once for each."""

from slmlp import config
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.tasks import source
from slmlp.evaluation.tasks.common import at_output
from slmlp.results.records import Score


def run(inputs: Inputs, cfg: config.Probe) -> list[Score]:
    """Return accuracy and mean_class_accuracy at one layer."""
    return at_output(inputs, "source") or source.run(inputs, cfg)[:2]
