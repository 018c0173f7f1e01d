"""Lin's similarity of two nouns of WordNet, with information content from the hierarchy itself.

    sim(a, b) = 2 IC(s) / (IC(a) + IC(b)),  s the common ancestor with the largest IC   (Lin, ICML 1998)
    IC(s) = 1 - ln(synsets at or under s) / ln(all synsets)                  (Seco, Veale & Hayes, ECAI 2004)

1 for a synset and itself, 0 for two that have only the root in common. ImageNet-CoG (Sariyildiz et al., ICCV 2021)
ranks concepts by Lin's similarity too, each by the source concept that is nearest to it; its information content is
its own, so levels here need not be those published. Steps on the path between two synsets would count alike near the
root and near the leaves, and WordNet divides animals into many more steps than tools.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from math import log

from slmlp.data import wordnet


class Hierarchy:
    """Synsets and the parents of each; several parents are allowed, cycles are not."""

    def __init__(self, parents: Mapping[str, tuple[str, ...]]) -> None:
        self.parents = parents
        self._known: dict[str, frozenset[str]] = {}
        self.sizes: Counter[str] = Counter()  # synsets at or under each, each counted once
        for synset in parents:
            self.sizes.update(self._walk(synset))

    def above(self, synset: str) -> frozenset[str]:
        """Return a synset and every one above it."""
        if synset not in self._known:
            self._known[synset] = frozenset(self._walk(synset))
        return self._known[synset]

    def _walk(self, synset: str) -> set[str]:
        visited, stack = {synset}, [synset]
        while stack:
            new = [parent for parent in self.parents[stack.pop()] if parent not in visited]
            visited.update(new)
            stack += new
        return visited

    def information(self, synset: str) -> float:
        """Return the information content of a synset, 0 (the root) to 1 (a leaf)."""
        return 1 - log(self.sizes[synset]) / log(len(self.parents))

    def lin(self, a: str, b: str) -> float:
        """Return Lin's similarity of two synsets, 0 to 1.

        >>> tree = Hierarchy({"thing": (), "pet": ("thing",), "cat": ("pet",), "dog": ("pet",), "car": ("thing",)})
        >>> round(tree.lin("cat", "dog"), 3), tree.lin("cat", "car"), tree.lin("cat", "cat")  # IC: 1 - ln 3 / ln 5
        (0.317, 0.0, 1.0)
        """
        if a == b:
            return 1.0
        both = self.information(a) + self.information(b)
        shared = max((self.information(s) for s in self.above(a) & self.above(b)), default=0.0)
        return 2 * shared / both if both > 0 else 0.0


@functools.cache
def hierarchy() -> Hierarchy:
    """Return the hierarchy of WordNet's nouns."""
    return Hierarchy(wordnet.hypernyms())


def nearest(source: Iterable[str], others: Iterable[str], tree: Hierarchy | None = None) -> dict[str, float]:
    """Return of each of the other synsets its similarity to the source synset that is most like it."""
    tree, source = tree or hierarchy(), list(source)
    return {other: max(tree.lin(other, one) for one in source) for other in others}
