"""The command slmlp export."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from slmlp.cli.answer import Answer
from slmlp.config.flags import argument, main
from slmlp.runtime.errors import SlmlpError, unknown
from slmlp.runtime.progress import say


@dataclass(frozen=True)
class Export:
    """Write an encoder for another tool, read it again through that tool's loader, and compare features on real images.

    Example: `slmlp export my-run --to onnx --out encoder.onnx`;
    `slmlp export my-run --to detectron2 --out r50.pkl`
    """

    run_folder: str = field(metadata=argument("RUN"))
    """Folder of a finished run, or an encoder file."""
    to: str = field(metadata=main("torchvision, timm, safetensors, onnx, detectron2, hf or exported-program"))
    """`torchvision`, `timm`, `safetensors`, `onnx`, `detectron2`, `hf` (a folder as on the Hugging Face hub) or
    `exported-program` (torch.export)."""
    out: str = field(metadata=main("the new file, or the folder of hf"))
    """The file, or the folder of `hf`; must be new."""
    data: str = field(default="emoji", metadata=main("images to compare features on", "data"))
    """Images to compare features on: anything that DATA can be elsewhere; default: the embedded set."""
    images: int = 16
    """How many of them, spread over the set."""
    with_projector: bool = field(default=False, metadata=main("let the projector travel too"))
    """Let the run's projector travel too (safetensors, onnx, exported-program)."""
    classifier: int | None = field(default=None, metadata=main("classes of a fresh, untrained classifier"))
    """Add a fresh, untrained classifier of this many classes (torchvision, timm, hf); default: none."""
    license: str = "unknown"
    """Licence of the weights for the model card, as the Hugging Face hub names them: `apache-2.0`, `cc-by-nc-4.0`."""
    opset: int = 18
    """Opset of the ONNX file."""

    def check(self) -> None:
        """Check that the target is known, and that the run is a file or a folder."""
        from slmlp.exports import TARGETS

        if self.to not in TARGETS:
            raise unknown("export target", self.to, TARGETS)
        if ":" not in self.run_folder and not Path(self.run_folder).exists():
            raise SlmlpError(f"no encoder at {self.run_folder}: expected a finished run's folder, or an encoder file")

    def run(self) -> Answer:
        """Export."""
        say("starting: loading libraries and images")
        from slmlp import api

        exported = api.export(
            self.run_folder, self.to, self.out, data=self.data, images=self.images,
            with_projector=self.with_projector, classifier=self.classifier, license=self.license, opset=self.opset,
        )  # fmt: skip
        lines = [f"{exported.path}: compared with the encoder on {exported.images}"]
        width = max(len(d.output) for d in exported.differences)
        for d in exported.differences:
            lines.append(f"  {d.output:<{width}}  largest difference {d.largest:.3g}, relative {d.relative:.3g}")
        lines += [*(f"beside it: {file}" for file in exported.beside), exported.usage]
        return Answer(dataclasses.asdict(exported), lines=lines)
