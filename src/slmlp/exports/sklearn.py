"""An encoder as a scikit-learn transformer: images in, features out, ready for a Pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from slmlp.runtime.errors import SlmlpError

Images = Sequence[Any] | npt.NDArray[np.uint8]


class EncoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Frozen features of images.

    Parameters
    ----------
    encoder : str or path
        A run's folder, an encoder file, ``timm:NAME[@FILE]``, ``torchvision:NAME[@FILE]``, ``FILE.onnx`` or
        ``module:function``, as ``slmlp evaluate`` takes them.
    batch_size : int, default=256
        Images that are computed together.
    image_shape : tuple of int, default=None
        ``(H, W)`` or ``(H, W, 3)`` where X is a table (N, H*W) or (N, H*W*3) of uint8 pixels, one image a row, as
        scikit-learn's own data sets keep them.
    seed : int, default=0
        Of random weights (``timm:NAME@random``).

    Attributes
    ----------
    encoder_ : slmlp.Encoder
        The opened encoder.

    Notes
    -----
    X is a sequence of paths, PIL images or uint8 arrays (H, W[, 3]), or one uint8 array (N, H, W[, 3]). Nothing is
    learnt from it: ``fit`` opens the encoder and looks at X only to refuse what are no images.

    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8), np.arange(12) % 2
    >>> pipeline = make_pipeline(EncoderTransformer("timm:test_resnet@random"), LogisticRegression())
    >>> pipeline.fit(x, y).predict(x).shape
    (12,)
    """

    def __init__(
        self,
        encoder: str | Path = "",
        *,
        batch_size: int = 256,
        image_shape: tuple[int, ...] | None = None,
        seed: int = 0,
    ) -> None:
        self.encoder = encoder
        self.batch_size = batch_size
        self.image_shape = image_shape
        self.seed = seed

    def fit(self, X: Images, y: object = None) -> EncoderTransformer:
        """Open the encoder; X is looked at, and y is not used."""
        from slmlp.encoders.sources import open_encoder

        if not str(self.encoder):
            raise SlmlpError("EncoderTransformer(encoder): name a run's folder, timm:NAME, or another encoder")
        if isinstance(self.batch_size, bool) or not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise SlmlpError(f"EncoderTransformer(batch_size) must be an int of at least 1, found {self.batch_size!r}")
        self._images(X)
        self.encoder_ = open_encoder(str(self.encoder), seed=self.seed)
        self._n_features_out = self.encoder_.dim
        return self

    def transform(self, X: Images) -> npt.NDArray[np.float32]:
        """Return features, float32 (N, D)."""
        check_is_fitted(self)
        return self.encoder_.transform(self._images(X), self.batch_size)

    def _images(self, X: Images) -> Images:
        """Return X as the encoder takes it, or refuse it."""
        if isinstance(X, (str, Path)) or not hasattr(X, "__len__"):
            raise SlmlpError("X must be a sequence of images (paths, PIL images, uint8 arrays), found a single thing")
        if len(X) == 0:
            raise SlmlpError("X holds no image: found 0 sample(s), at least 1 is needed")
        table = X if isinstance(X, np.ndarray) else None
        if self.image_shape is not None:
            table = np.asarray(X)
            pixels = int(np.prod(self.image_shape))
            if table.dtype != np.uint8 or table.ndim != 2 or table.shape[1] != pixels:
                raise SlmlpError(
                    f"X must be a table of uint8 pixels (N, {pixels}) for image_shape {tuple(self.image_shape)}, found "
                    f"{table.dtype} {table.shape}"
                )
            return table.reshape(len(table), *self.image_shape)
        if table is not None and table.dtype != object and not (table.dtype.kind == "U" and table.ndim == 1):
            if table.dtype != np.uint8 or table.ndim not in (3, 4):
                hint = "; give image_shape where each row is an image" if table.ndim == 2 else ""
                raise SlmlpError(f"X must be uint8 (N, H, W[, 3]), found {table.dtype} {table.shape}{hint}")
            return table
        return list(X)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: images, not tables; nothing is learnt from them, fitting opens the encoder."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = True
        tags.no_validation = True
        tags.transformer_tags.preserves_dtype = []
        return tags
