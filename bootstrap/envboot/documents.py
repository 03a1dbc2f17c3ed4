"""What the JSON documents share: strict reading with dotted paths, and writing. Pure."""

from __future__ import annotations

import json
import reprlib
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from envboot.errors import DocumentError

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

_T = TypeVar("_T")
_LARGEST = 2**63
"""Whole numbers are below it on both sides, as in most other JSON readers: a document of somebody
else's may hold one that no later arithmetic can take."""


def parse_json(text: str | bytes, what: str) -> Any:
    """Decode the JSON text of one `what`; DocumentError when it is none."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise DocumentError(f"Expected a {what} in JSON", causes=(str(error),)) from error
    except RecursionError as error:
        # Not chained: a traceback of a thousand levels helps nobody.
        del error
        raise DocumentError(f"Expected a {what} in JSON, found it nested too deeply") from None


def plain(value: Any) -> Any:
    """Turn records into JSON values; absent members are left out."""
    if hasattr(value, "__dataclass_fields__"):
        members = {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
        return {name: member for name, member in members.items() if member is not None}
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items()}
    return [plain(member) for member in value] if isinstance(value, tuple) else value


def find_table(value: Any, *keys: str) -> dict[str, Any]:
    """Return the object at a path of keys in another tool's document; empty without any."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def show_value(value: Any, most: int = 80) -> str:
    """Return the beginning of a value in Python's notation, however deep or long it is."""
    shown = reprlib.Repr()
    shown.maxlevel, shown.maxlist, shown.maxdict = 3, 20, 20
    shown.maxstring = shown.maxother = shown.maxlong = 2 * most
    return f"{shown.repr(value):.{most}}"


class Node:
    """One JSON object being read, member by member, knowing its own dotted path.

    Every method raises `DocumentError` naming that path.
    """

    def __init__(self, value: Any, path: str) -> None:
        self.path = path
        if not isinstance(value, dict):
            raise DocumentError(
                f"Expected an object at `{path or '.'}`, found `{show_value(value, 60)}`"
            )
        self.rest = dict(value)

    def at(self, key: str) -> str:
        """Return the dotted path of a member."""
        return f"{self.path}.{key}" if self.path else key

    def has(self, key: str) -> bool:
        """Whether the member is there and not read yet."""
        return key in self.rest

    def take(self, key: str, kind: type[_T], pattern: re.Pattern[str] | None = None) -> _T:
        """Read a member that must be there, be a `kind` and match `pattern` wholly."""
        if key not in self.rest:
            raise DocumentError(f"Expected `{self.at(key)}`, found nothing")
        value = self.rest.pop(key)
        if not _is_a(value, kind) or (pattern and not pattern.fullmatch(str(value))):
            wanted = f"to match `{pattern.pattern}`" if pattern else f"a {kind.__name__}"
            raise DocumentError(f"Expected `{self.at(key)}` {wanted}, found `{show_value(value)}`")
        return value

    def find(self, key: str, pattern: re.Pattern[str] | None = None) -> str | None:
        """Read a text that may be absent."""
        return self.take(key, str, pattern) if key in self.rest else None

    def strings(self, key: str) -> tuple[str, ...]:
        """Read a list of texts; an absent one is empty."""
        found = self.take(key, list) if key in self.rest else []
        for i, value in enumerate(found):
            if not isinstance(value, str):
                raise DocumentError(
                    f"Expected `{self.at(key)}[{i}]` a str, found `{show_value(value)}`"
                )
        return tuple(found)

    def texts(self, key: str) -> dict[str, str]:
        """Read an object of texts; an absent one is empty."""
        found = self.take(key, dict) if key in self.rest else {}
        for name, value in found.items():
            if not isinstance(value, str):
                path = f"{self.at(key)}.{name}"
                raise DocumentError(f"Expected `{path}` a str, found `{show_value(value)}`")
        return found

    def maybe(self, key: str, read: Callable[[Node], _T]) -> _T | None:
        """Read a member that is an object or absent."""
        return read(self.child(key)) if key in self.rest else None

    def child(self, key: str) -> Node:
        """Read a member that is an object."""
        return Node(self.take(key, dict), self.at(key))

    def children(self, key: str) -> list[Node]:
        """Read a list of objects; an absent one is empty."""
        found = self.take(key, list) if key in self.rest else []
        return [Node(value, f"{self.at(key)}[{i}]") for i, value in enumerate(found)]

    def end(self) -> None:
        """Raise `DocumentError` when a member was not read: it is unknown."""
        if self.rest:
            unknown = min(self.rest)
            raise DocumentError(f"Unknown member `{self.at(unknown)}`")


def _is_a(value: object, kind: type[_T]) -> TypeGuard[_T]:
    """Whether a value is of a kind; to Python `true` is a number, to JSON it is not."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, kind) and not (isinstance(value, int) and abs(value) >= _LARGEST)
