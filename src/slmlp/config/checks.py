"""Check ranges of settings; each error is one line that names the setting."""

from __future__ import annotations

import math

from slmlp.runtime.errors import SlmlpError


def _check(settings: object, names: tuple[str, ...], what: str, low: float, flags: str | None, *, strict: bool) -> None:
    for name in names:
        value = getattr(settings, name)
        if value == "auto":
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not (value > low if strict else value >= low):  # NaN is neither
            flag = name if flags is None else flags + name.replace("_", "-")
            raise SlmlpError(f"{flag} must be {what}, found {value!r}")


def positive(settings: object, *names: str, flags: str | None = None) -> None:
    """Raise SlmlpError unless every named setting is above 0 or ``auto``.

    ``flags`` is what stands before the name where a user types it, as ``--probe.``; without it the bare name is said.
    """
    _check(settings, names, "above 0", 0, flags, strict=True)


def not_negative(settings: object, *names: str, flags: str | None = None) -> None:
    """Raise SlmlpError unless every named setting is 0 or more, or ``auto``."""
    _check(settings, names, "0 or more", 0, flags, strict=False)


def at_least(settings: object, least: int, *names: str, flags: str | None = None) -> None:
    """Raise SlmlpError unless every named setting is ``least`` or more, or ``auto``."""
    _check(settings, names, f"at least {least}", least, flags, strict=False)


def inside(settings: object, name: str, flag: str) -> None:
    """Raise SlmlpError unless the named share is above 0 and below 1; ``flag`` is what the user types."""
    if not 0 < getattr(settings, name) < 1:
        raise SlmlpError(f"{flag} must be above 0 and below 1, found {getattr(settings, name)}")


def all_above(settings: object, low: float, name: str, flag: str) -> None:
    """Check that the setting named holds numbers, all finite and above ``low``."""
    values = getattr(settings, name)
    if not values or not all(low < value < math.inf for value in values):
        values_text = " ".join(map(str, values)) or "nothing"
        raise SlmlpError(f"{flag} must be one or more numbers above {low:g}, found {values_text}")


def share(settings: object, name: str) -> None:
    """Raise SlmlpError unless the named setting is at least 0 and below 1, or ``auto``."""
    if not 0 <= getattr(settings, name) < 1:
        raise SlmlpError(f"{name} must be 0 to below 1, found {getattr(settings, name)}")
