"""The encoder: the network that remains after pretraining, without method and projector."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from slmlp.encoders import stored
from slmlp.encoders import weights as weight_files
from slmlp.encoders.backbones import NOTHING, Dropped, backbone_of, resize
from slmlp.encoders.preprocess import Origin, Preprocess
from slmlp.runtime import files, json_files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say

FORMAT = "slmlp-encoder-1"


@dataclass(frozen=True)
class EncoderSpec:
    """What is needed to build the same network again and to prepare images for it."""

    name: str
    stem: str  # small or standard; "own" for a network that slmlp does not build by its name
    image_size: int
    dim: int
    normalisation: str = "imagenet"  # kept since it is in every hash; ``Encoder.preprocess`` has the numbers


class Encoder(nn.Module):
    """A backbone without classifier: normalised images (N, 3, H, W) -> pooled features (N, D).

    ``state_dict`` has the backbone's own key names (torchvision's for ResNets), so that other tools read it.
    """

    def __init__(
        self,
        backbone: nn.Module,
        spec: EncoderSpec,
        preprocess: Preprocess | None = None,
        origin: Origin | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.spec = spec
        self.preprocess = preprocess or Preprocess.ours(spec.image_size)
        self.origin = origin or Origin(spec.name, {})
        self.dim = spec.dim

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, D) of normalised images."""
        feature: Tensor = self.backbone(x)
        return feature

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the backbone's weights and statistics on the CPU, by its own key names."""
        # a copy, contiguous in the usual layout: what is saved must neither move with training nor depend on it
        return {
            k: v.detach().cpu().clone(memory_format=torch.contiguous_format)
            for k, v in self.backbone.state_dict().items()
        }

    def load_weights(self, state: dict[str, Tensor], source: str) -> None:
        """Load weights by name; any missing, unexpected or misshapen key is an error that lists them.

        Counters of BatchNorm may be missing, and parts that only training uses left over: that is said.
        """
        own = self.backbone.state_dict()
        state, notes = weight_files.fit(state, own)
        integer = weight_files.quantised(state, own)
        if integer:
            raise SlmlpError(
                f"weights of {source}: {integer}, so that they are quantised, and their scales are not beside them; "
                "give the weights of before, in floating point"
            )
        problems = weight_files.problems(state, own)
        if problems:
            stem = "" if self.spec.stem == "own" else f" with the {self.spec.stem} stem"
            raise SlmlpError(
                f"weights of {source} do not fit encoder {self.spec.name}{stem} at {self.spec.image_size} px: keys "
                f"{'; '.join(problems)}; nothing was loaded"
            )
        broken = weight_files.not_finite(state, own)
        if broken:
            raise SlmlpError(
                f"weights of {source}: NaN or infinity in {len(broken)} of {len(state)} tensors ({broken[0]}), so that "
                "training has diverged or the file is damaged; give an earlier checkpoint"
            )
        constant = weight_files.constant(state)
        if constant:
            notes.append(
                f"{len(constant)} of {len(state)} tensors are one number throughout ({constant[0]}), as weights "
                "are that were never trained, or not written"
            )
        for note in notes:
            say(f"{source}: {note}")
        self.backbone.load_state_dict(state, strict=True)

    def save(self, path: Path, extra: dict[str, Any] | None = None) -> None:
        """Write weights and spec as safetensors, atomically, with the preprocessing where it is not slmlp's own."""
        if self.spec.stem == "own":
            raise SlmlpError(
                f"{self.origin.source} is a network that slmlp does not build itself, so a file of its weights could "
                "not be opened again; keep the file that it came from"
            )
        about = {"format": FORMAT, "spec": dataclasses.asdict(self.spec), **(extra or {})}
        if self.preprocess != Preprocess.ours(self.spec.image_size):
            about["preprocess"] = dataclasses.asdict(self.preprocess)
        stored.write(path, self.weights(), about)

    def hash(self) -> str:
        """Return the SHA-256 over spec, key names and weights, and over what the origin adds."""
        spec = json.dumps(dataclasses.asdict(self.spec), sort_keys=True).encode()
        chunks = [spec, *(part.encode() for part in self.origin.identity)]
        for key, value in sorted(self.weights().items()):
            chunks += [key.encode(), str(value.dtype).encode(), str(tuple(value.shape)).encode()]
            chunks.append(value.reshape(-1).view(torch.uint8).numpy().tobytes())
        return files.sha256(chunks)

    @classmethod
    def load(cls, source: str | Path) -> Encoder:
        """Return the encoder of a run's folder, or of an encoder file, in evaluation mode on the CPU.

        >>> Encoder.load("no/such/run")
        Traceback (most recent call last):
        slmlp.runtime.errors.SlmlpError: no encoder at no/such/run: expected a run's folder or ...
        """
        path = Path(source)
        file = path / "encoder.safetensors" if path.is_dir() else path
        if not file.is_file():
            what = (
                "the run has not finished: slmlp pretrain --resume it"
                if path.is_dir() and (path / "config.json").exists()
                else "expected a run's folder or an encoder.safetensors file"
            )
            raise SlmlpError(f"no encoder at {source}: {what}")
        about, state = stored.read(file, "restore it or run again")
        if about.get("format") != FORMAT:
            raise SlmlpError(
                f"{file} was not written by slmlp (found format {about.get('format')!r:.40}, expected {FORMAT!r})"
            )
        if path.is_dir():
            _refuse_of_another_run(path, about)
        spec = json_files.convert(about.get("spec"), EncoderSpec, f"metadata of {file}", "restore it or run again")
        encoder = build(spec.name, spec.image_size, spec.stem)
        default = (getattr(encoder.backbone, "pretrained_cfg", None) or {}).get("input_size", (3, spec.image_size))[1]
        if default != spec.image_size and weight_files.misshapen(state, encoder.backbone.state_dict()):
            # a Swin that was resized has smaller windows than one that is built for the size
            encoder = build(spec.name, default, spec.stem)
            resize(encoder.backbone, spec.image_size, str(file))
            encoder.spec = spec
        encoder.load_weights(state, str(file))
        if "preprocess" in about:
            encoder.preprocess = json_files.convert(
                about["preprocess"], Preprocess, f"metadata of {file}", "restore it or run again"
            )
        return encoder.eval()

    def transform(
        self, images: Sequence[Any] | npt.NDArray[np.uint8], batch_size: int = 256
    ) -> npt.NDArray[np.float32]:
        """Return features, float32 (N, D), of images: paths, PIL images, or uint8 arrays (H, W[, 3]).

        Each is decoded as training decoded it, and prepared as ``preprocess`` says.
        The encoder is used in evaluation mode and left in the mode it was in.
        """
        from slmlp.data.decode import resize_image
        from slmlp.encoders.images import as_rgb

        resize = self.preprocess.resize
        parts = []
        for start in range(0, len(images), batch_size):
            squares = [resize_image(as_rgb(image), resize) for image in images[start : start + batch_size]]
            parts.append(self.features(torch.from_numpy(np.stack(squares))))
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), dtype=np.float32)

    def features(self, pixels: Tensor) -> npt.NDArray[np.float32]:
        """Return features, float32 (N, D), of uint8 squares (N, S, S, 3) with S = preprocess.side."""
        first = next(self.parameters(), None)  # an ONNX file has none
        device = torch.device("cpu") if first is None else first.device
        training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                x = self.preprocess(pixels.to(device))
                return self(x.contiguous(memory_format=torch.channels_last)).float().cpu().numpy()  # type: ignore[no-any-return]
        finally:
            self.train(training)


def build(name: str, image_size: int, stem: str, crop_size: int | None = None, dropped: Dropped = NOTHING) -> Encoder:
    """Return a randomly initialised encoder; draws from torch's global generator (see ``seeds.seeded``).

    With ``crop_size`` it also takes squares of that side (local crops): ViTs then resample their position embedding.
    The weights and their names are the same with it and without, and whatever is ``dropped`` in training.
    """
    backbone, dim = backbone_of(name, image_size, stem, crop_size, dropped)
    return Encoder(backbone, EncoderSpec(name=name, stem=stem, image_size=image_size, dim=dim))


def _refuse_of_another_run(run: Path, about: Mapping[str, Any]) -> None:
    """Raise SlmlpError where the encoder in a run's folder says that it is of other settings than config.json."""
    if not about.get("job") or not (run / "config.json").is_file():
        return
    own = (json_files.read(run / "config.json", dict[str, Any]).get("identity") or {}).get("job")
    if own not in (None, about["job"]):
        raise SlmlpError(
            f"{run}/encoder.safetensors is of another run than {run}/config.json ({about.get('method')}, seed "
            f"{about.get('seed')}, or other settings): restore both from one run"
        )
