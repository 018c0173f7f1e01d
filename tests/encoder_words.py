"""What tests of encoder sources share: timm's own features, and a unsupported in one line."""

from __future__ import annotations

import pytest
import torch

from slmlp.encoders.sources import open_encoder
from slmlp.runtime.errors import SlmlpError


def features(net, x):
    """Return what timm's network gives without its classifier."""
    with torch.inference_mode():
        return net.forward_head(net.forward_features(x), pre_logits=True)


def refused(source, words, **options):
    with pytest.raises(SlmlpError) as caught:
        open_encoder(str(source), **options)
    text = str(caught.value)
    assert "\n" not in text
    for word in [words] if isinstance(words, str) else words:
        assert word in text, text
    return text
