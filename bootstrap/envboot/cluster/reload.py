"""What a live scheduler must forget of your own code, so that it reads the new."""

from __future__ import annotations

from types import FunctionType
from typing import Any


def forget_layer() -> bytes:
    """Return a function for the scheduler, pickled with its code: envboot may not be there."""
    import cloudpickle  # type: ignore[import-untyped]

    function = FunctionType(_forget.__code__, {"__builtins__": __builtins__}, "forget")
    # Of a module that cannot be imported there the code itself is pickled.
    function.__module__ = "__envboot__"
    data: bytes = cloudpickle.dumps(function)
    return data


def _forget() -> list[str]:
    """Drop the modules of the layer, and those whose files are gone, from `sys.modules`.

    The scheduler unpickles tasks by the names of their functions; it runs none of them.
    """
    import importlib
    import sys
    from pathlib import Path

    prefix, listed = Path(sys.prefix), set()
    if (prefix / "lib/envboot/layer.txt").exists():
        listed = set((prefix / "lib/envboot/layer.txt").read_text("utf-8").splitlines())
    dropped = []
    for name, module in list(sys.modules.items()):
        file: Any = getattr(module, "__file__", None)
        if not file or prefix not in Path(file).parents:
            continue
        if str(Path(file).relative_to(prefix)) in listed or not Path(file).exists():
            dropped.append(name)
            del sys.modules[name]
    importlib.invalidate_caches()
    return dropped
