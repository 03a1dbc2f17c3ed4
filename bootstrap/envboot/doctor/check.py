"""What one probe found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from envboot.errors import EnvbootError


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What one probe found, in words; `hint` is what to do about it.

    A `warning` is what launches go on with, `failed` what they do not; `skipped` could not be
    tried, and `detail` says why.
    """

    name: str
    status: Literal["ok", "warning", "failed", "skipped"]
    detail: str
    hint: str | None = None


def to_check(name: str, error: EnvbootError) -> Check:
    """Return the check that an error makes."""
    causes = "; ".join(error.causes)
    detail = f"{error.message}: {causes}" if causes else error.message
    return Check(name=name, status="failed", detail=detail, hint=error.hint)
