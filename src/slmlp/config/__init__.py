"""Every setting of a run, of each method and of a study: frozen dataclasses, importable without torch.

The sentence under a field is its help text on the command line. Each default is written here and nowhere else; nothing
changes a config after parsing, and what is derived from it gets a name of its own (``base_lr`` -> ``peak_lr``).
"""

from slmlp.config.detection import Detection
from slmlp.config.encoders import PreprocessFlags
from slmlp.config.methods import (
    BYOL,
    METHOD_CONFIGS,
    METHODS,
    SL,
    MethodConfig,
    MoCo,
    SavedSettings,
    SimCLR,
    SupCon,
    SwAV,
    TReX,
    check_parts,
    method_identity,
)
from slmlp.config.parse import from_dict
from slmlp.config.plugins import Source, load_tasks, method_config, method_entry, method_source, task_entry
from slmlp.config.projector import Projector, Width
from slmlp.config.study import DEMO, PRESETS, Measures, Probe, Split, Study, preset
from slmlp.config.suite import Suite, TaskSettings
from slmlp.config.tasks import (
    OFFERED,
    TASKS,
    Centroid,
    Extraction,
    FewShot,
    Finetune,
    Knn,
    LabelEfficiency,
    Novelty,
    Retrieval,
    Task,
    tasks_help,
)
from slmlp.config.training import DataOptions, StudyTraining, Training, identity

__all__ = [
    "BYOL",
    "DEMO",
    "METHODS",
    "METHOD_CONFIGS",
    "OFFERED",
    "PRESETS",
    "SL",
    "TASKS",
    "Centroid",
    "DataOptions",
    "Detection",
    "Extraction",
    "FewShot",
    "Finetune",
    "Knn",
    "LabelEfficiency",
    "Measures",
    "MethodConfig",
    "MoCo",
    "Novelty",
    "PreprocessFlags",
    "Probe",
    "Projector",
    "Retrieval",
    "SavedSettings",
    "SimCLR",
    "Source",
    "Split",
    "Study",
    "StudyTraining",
    "Suite",
    "SupCon",
    "SwAV",
    "TReX",
    "Task",
    "TaskSettings",
    "Training",
    "Width",
    "check_parts",
    "from_dict",
    "identity",
    "load_tasks",
    "method_config",
    "method_entry",
    "method_identity",
    "method_source",
    "preset",
    "task_entry",
    "tasks_help",
]  # fmt: skip
