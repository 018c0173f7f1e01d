"""Check that a network maps images of its size to features (N, D)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slmlp.encoders.encoder import Encoder, EncoderSpec
from slmlp.encoders.preprocess import Origin
from slmlp.encoders.sources.preparing import Prepared
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import short


def checked(backbone: nn.Module, name: str, prepared: Prepared, source: str, identity: tuple[str, ...] = ()) -> Encoder:
    """Return the encoder around a network that slmlp did not build, its width found by a pass over one grey image."""
    size = prepared.preprocess.size
    try:
        with torch.inference_mode():
            output = backbone.eval()(torch.zeros(2, 3, size, size))
    except Exception as error:  # whatever a stranger's network raises
        first = short(error)
        raise SlmlpError(
            f"{source} cannot take images (N, 3, {size}, {size}) ({type(error).__name__}: {first}); slmlp gives RGB "
            "squares: where another size is needed, give it with --preprocess.size"
        ) from error
    if not isinstance(output, Tensor):
        raise SlmlpError(f"{source} returns a {type(output).__name__}, expected a tensor of features (N, D)")
    if output.ndim != 2 or len(output) != 2:
        shape = ", ".join(["N", *map(str, output.shape[1:])]) if len(output) == 2 else tuple(output.shape)
        hint = "; average it over height and width" if output.ndim == 4 else ""
        raise SlmlpError(f"{source} returns a tensor of shape ({shape}), expected features (N, D){hint}")
    spec = EncoderSpec(name=name, stem="own", image_size=size, dim=int(output.shape[1]))
    return Encoder(backbone, spec, prepared.preprocess, Origin(source, prepared.values, identity)).eval()
