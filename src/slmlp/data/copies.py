"""Find images that equal each other byte for byte, by reading as little of the files as that takes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Hashable

from slmlp.data.dataset import ImageSet
from slmlp.data.readers import content
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.threads import in_threads

HEAD = 4096  # bytes; two photographs of one size differ here already
Keys = dict[int, Hashable]  # index of an image -> what equal images share


def copies(first: ImageSet, second: ImageSet) -> list[tuple[str, str]]:
    """Return (id in ``first``, id in ``second``) of each image of ``second`` that equals one of ``first``.

    Files are compared, or pixels where the data is an array. Of several equal images of ``first`` the first is named.
    """
    left, right = _sizes(first), _sizes(second)
    for size in (HEAD, None):
        shared = set(left.values()) & set(right.values())
        left, right = _digests(first, left, shared, size), _digests(second, right, shared, size)
    names: dict[Hashable, str] = {}
    for i, key in left.items():
        names.setdefault(key, first.ids[i])
    return [(names[key], second.ids[i]) for i, key in right.items() if key in names]


def repeated(images: ImageSet) -> list[tuple[str, str]]:
    """Return (id, id) of each image that equals an earlier one, and that one's first: the same image twice."""
    keys = _sizes(images)
    for size in (HEAD, None):
        keys = _digests(images, keys, {key for key, n in Counter(keys.values()).items() if n > 1}, size)
    names: dict[Hashable, str] = {}
    pairs = [(names.setdefault(key, images.ids[i]), images.ids[i]) for i, key in keys.items()]
    return [(one, other) for one, other in pairs if one != other]


def _sizes(images: ImageSet) -> Keys:
    return dict(enumerate(images.sizes.tolist()))


def _digests(images: ImageSet, keys: Keys, wanted: Collection[Hashable], size: int | None) -> Keys:
    """Return, of images whose key is wanted, that key with the digest of their first ``size`` bytes."""
    index = [i for i, key in keys.items() if key in wanted]

    def digest(at: int) -> bytes:
        return _digest(images, index[at], size)

    results = in_threads(digest, len(index), f"comparing {images.name}")
    return {index[at]: (keys[index[at]], of) for at, of in results}


def _digest(images: ImageSet, index: int, size: int | None) -> bytes:
    try:
        return hashlib.sha256(content(images, index, size)).digest()
    except OSError as error:
        raise SlmlpError(f"cannot read {images.ids[index]} of {images.source}: {error.strerror or error}") from error
