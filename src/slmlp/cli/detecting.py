"""The command slmlp detect."""

from __future__ import annotations

from dataclasses import dataclass, field

from slmlp import config
from slmlp.cli import answer
from slmlp.cli.answer import Answer
from slmlp.cli.checks import check_encoder
from slmlp.config.flags import FLAT, argument, main
from slmlp.runtime import processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say


@dataclass(frozen=True)
class Detect:
    """Train a detector on each encoder (Mask R-CNN, or Faster R-CNN on boxes), compare COCO's AP and write a page.

    Example: `slmlp detect sl-run sl-mlp-run COCO --schedule 1x --out my-detection`;
    on a CPU: `slmlp detect my-run tinycoco.tar --schedule short --batch-size 4 --short-side 192 --norm group
    --roi-batch-size 128 --out small`. Runs of one method are its seeds; the first encoder is the baseline. The same
    command resumes one that was stopped.
    """

    words: tuple[str, ...] = field(
        metadata=argument("ENCODER... DATA", "encoders, then a folder or tar in COCO's layout")
    )
    """Run folders or encoder files, optionally as NAME=ENCODER; then a folder or tar in COCO's layout (omitted where
    --train-json names the data)."""
    out: str = field(metadata=main("folder of results and page; the same command resumes it"))
    """Folder of results, predictions, pictures and page; results already in it are not computed again."""
    dry_run: bool = field(default=False, metadata=main("say how long it would take, and write nothing"))
    """Check all settings and inputs, say which detectors are left, how long they would take and what they would write,
    and write nothing."""
    train_json: str | None = field(default=None, metadata={"takes": "file"})
    """Annotations of the training part, for data in another layout."""
    train_images: str | None = field(default=None, metadata={"takes": "folder"})
    """Folder of their images; default: the folder of the annotations."""
    val_json: str | None = field(default=None, metadata={"takes": "file"})
    """Annotations of the validation part."""
    val_images: str | None = field(default=None, metadata={"takes": "folder"})
    """Folder of their images."""
    test_json: str | None = field(default=None, metadata={"takes": "file"})
    """Annotations of the test part."""
    test_images: str | None = field(default=None, metadata={"takes": "folder"})
    """Folder of their images."""
    detection: config.Detection = field(default_factory=config.Detection, metadata=FLAT)
    """Settings."""

    def check(self) -> None:
        """Check the names of the encoders."""
        for word in self.words[: -1 if self.train_json is None else None]:
            check_encoder(word)

    def run(self) -> Answer:
        """Train and evaluate."""
        given = {
            "train": (self.train_json, self.train_images),
            "val": (self.val_json, self.val_images),
            "test": (self.test_json, self.test_images),
        }
        words, data = list(self.words), None
        if self.train_json is None:
            if len(self.words) < 2:
                raise SlmlpError("slmlp detect needs an encoder and data: slmlp detect ENCODER... DATA --out DIR")
            data = words.pop()
        say("starting: loading libraries and annotations")
        from slmlp import api
        from slmlp.cli import pages

        page = api.detect(words, data, self.out, given=given, cfg=self.detection, dry_run=self.dry_run)
        if self.dry_run:
            return answer.of_plan()
        return pages.answer(page) if processes.is_main() else Answer({})
