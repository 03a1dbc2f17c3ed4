"""Signatures that list every keyword, for `help()` and for Shift-Tab in a notebook."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_F = TypeVar("_F", bound="Callable[..., Any]")


def lists_keywords(kind: Any, defaults: Mapping[str, object]) -> Callable[[_F], _F]:
    """Show the keys of a `TypedDict` as keyword arguments of a function with `**Unpack[kind]`.

    Type checkers read them there themselves (PEP 692); `inspect.signature`, which `help()` and
    IPython use, shows one `**options`. A key without default is shown with None.
    """

    def decorate(function: _F) -> _F:
        own = inspect.signature(function)
        shown = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        shown += [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(name),
                # A TypedDict wraps annotations that are text.
                annotation=getattr(annotation, "__forward_arg__", annotation),
            )
            for name, annotation in kind.__annotations__.items()
        ]
        made: Any = function
        made.__signature__ = own.replace(parameters=shown)
        return function

    return decorate
