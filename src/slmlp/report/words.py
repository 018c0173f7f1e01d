"""How numbers, names and sentences are written for readers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from markupsafe import Markup

from slmlp.results.sentences import metric_name
from slmlp.runtime.plain import plural

METRICS = {
    "accuracy": "accuracy",
    "map": "mean average precision",
    "map_11_point": "mean average precision, 11 points",
    "discriminative_ratio_source": "discriminative ratio, source",
    "discriminative_ratio_unseen": "discriminative ratio, unseen",
    "discriminative_ratio_source_normalised": "discriminative ratio, source, normalised features",
    "discriminative_ratio_unseen_normalised": "discriminative ratio, unseen, normalised features",
    "mixtureness_floor": "mixtureness, floor",
    "mixtureness_ceiling": "mixtureness, ceiling",
    "redundancy_source": "redundancy, source",
    "redundancy_unseen": "redundancy, unseen",
}
NOTHING = "–"
AFTER_A_NAME = ("beats ", "beat ", "loses ", "lose ", "against ", "minus ", "has ", "left out ", "could ", "and ")


def metric(key: str) -> str:
    """Return a metric's name for readers."""
    return METRICS.get(key) or metric_name(key)


def number(value: float | None, digits: int = 1) -> str:
    """Return a number with a true minus sign, or a dash for nothing."""
    return NOTHING if value is None else f"{value:,.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 1) -> str:
    """Return a difference with its sign; what rounds to zero has none.

    >>> signed(-0.34), signed(1.25), signed(-0.01)
    ('−0.3', '+1.2', '0.0')
    """
    if value is None:
        return NOTHING
    text = f"{value:+,.{digits}f}"
    return text[1:] if float(text.replace(",", "")) == 0 else text.replace("-", "−")


def span(low: float | None, high: float | None, digits: int = 1) -> str:
    """Return "62.4–63.8", or nothing where there is no range."""
    return "" if low is None or high is None else f"{number(low, digits)}–{number(high, digits)}"


def signed_span(low: float | None, high: float | None) -> str:
    """Return "−0.3 to +1.2", or nothing where there is no range."""
    return "" if low is None or high is None else f"{signed(low)} to {signed(high)}"


def p_value(p: float | None) -> str:
    """Return a p value; below one in a thousand the digits say nothing."""
    return NOTHING if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def short(text: str, letters: int) -> str:
    """Return a text cut to a number of letters where a drawing has no room for more.

    What tells contenders apart stands at their ends, so it is the middle that goes.

    >>> short("SL-MLP (projector.hidden=512) − SL", 20)
    'SL-MLP (p…=512) − SL'
    """
    if len(text) <= letters:
        return text
    end = letters // 2
    return text[: letters - 1 - end] + "…" + text[-end:]


def listed(items: list[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def day(stamp: str | None) -> str:
    """Return an ISO time as "21 Nov 2026, 14:03", or as it was written where it is none."""
    try:
        return f"{datetime.fromisoformat(stamp or ''):%-d %b %Y, %H:%M}"
    except ValueError:
        return stamp or "unknown"


def hours(value: float | None) -> str:
    """Return a duration at the grain a reader cares for."""
    if value is None:
        return "unknown time"
    return plural(max(1, round(value * 60)), "minute") if value < 2 else f"{value:,.1f} hours"


def opening(text: str) -> str:
    """Return a sentence with a capital at its start, but where that is a name, which is spelt as it was given.

    >>> opening("no difference found"), opening("timm:resnet50 beats SL"), opening("mlp beats sl"), opening("b0 leads")
    ('No difference found', 'timm:resnet50 beats SL', 'mlp beats sl', 'b0 leads')
    """
    first, _, rest = text.partition(" ")
    if not first.isalpha() or rest.startswith(AFTER_A_NAME):
        return text
    return first[:1].upper() + text[1:]


def halves(sentence: str) -> tuple[str, str]:
    """Return a finding and, behind it, how sure it is: the interval in brackets and all that follows.

    >>> halves("SL beats SL-MLP by 2.9 points (95 % CI 1.0 to 4.8, 5 seeds)")
    ('SL beats SL-MLP by 2.9 points', '(95 % CI 1.0 to 4.8, 5 seeds)')
    """
    finding, bracket, basis = sentence.partition(" (95 % ")
    return (finding, f"(95 % {basis}") if bracket else (sentence, "")


def breakable(name: str) -> Markup:
    """Return a name, escaped, whose line breaks after a dot, slash or underscore rather than within a word.

    >>> breakable("SL (training.epochs=32)")
    Markup('SL (training.<wbr>epochs=32)')
    >>> breakable("a.<b>/c")
    Markup('a.&lt;b&gt;/<wbr>c')
    """
    return Markup("<wbr>").join(re.split(r"(?<=[._/])(?=\w)", name))  # join escapes what it joins


def tidy(text: str) -> str:
    r"""Return a sentence with true minus signs, whose line does not break between a number and what it counts in.

    >>> tidy("-0.4 points (95 % CI -2.1 to 1.4), sl-0, 2026-11-28")
    '−0.4 points (95\xa0% CI −2.1 to 1.4), sl-0, 2026-11-28'
    """
    text = re.sub(r"(?<![^\s(])-(?=\d)", "−", text)
    return text.replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0")


def flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every setting as (dotted name, value as text)."""
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
