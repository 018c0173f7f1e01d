"""Forward pass over many images, batch by batch, reading ahead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from slmlp.data.cache import ImageCache
from slmlp.data.dataset import IntArray
from slmlp.encoders import Encoder, layers
from slmlp.encoders.fold import folded
from slmlp.runtime.device import Compute
from slmlp.runtime.progress import track

BATCH = 256
FloatArray = npt.NDArray[np.float32]


def forward(
    encoder: Encoder,
    image_cache: ImageCache,
    rows: IntArray,
    compute: Compute,
    wanted: Sequence[str],
    batch_size: int = BATCH,
    words: str = "images",
    projector: nn.Module | None = None,
) -> dict[str, FloatArray]:
    """Return the features (len(rows), D_k) of some rows of an image cache at each layer, in evaluation mode.

    Images are read, and decoded where they are streamed, while the batch before is computed. The encoder is left in the
    mode it was in, on the device of ``compute``.
    """
    encoder.to(compute.device)
    net = folded(encoder, wanted, projector) if compute.channels_last else encoder
    if compute.channels_last:
        net.to(memory_format=torch.channels_last)
    sizes = layers.widths(encoder, wanted, projector)
    features = {name: np.empty((len(rows), width), dtype=np.float32) for name, width in sizes.items()}
    training = encoder.training
    net.eval()
    batches = image_cache.batches(rows, encoder.preprocess.resize, batch_size)
    count = -(-len(rows) // batch_size)
    try:
        with torch.inference_mode(), compute.autocast():
            at = 0
            for pixels in track(batches, count, f"features of {words}", show=image_cache.progress):
                x = encoder.preprocess(pixels.to(compute.device, non_blocking=True))
                if not compute.channels_last:
                    x = x.contiguous()  # preprocessing leaves channels last, as the pixels were
                for name, h in layers.outputs(net, x, wanted, projector).items():
                    features[name][at : at + len(pixels)] = h.float().cpu().numpy()
                at += len(pixels)
    finally:
        encoder.train(training)
    return features
