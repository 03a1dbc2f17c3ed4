"""A configuration as the files that uv reads, without a secret in them. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from envboot.indexes.configuration import Configuration, Index

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def render_config(configuration: Configuration, names: Mapping[str, Index]) -> str:
    """Return a `uv.toml`; `names` are what the indexes are called in it."""
    # uv looks into links before any index; pip into all that it knows alike.
    is_pips = configuration.strategy == "unsafe-best-match"
    links = [index.url for index in names.values() if index.flat and not (index.login or is_pips)]
    rest = [
        (name, index)
        for name, index in names.items()
        if index.url not in links and (index.flat or not configuration.no_index)
    ]
    options: dict[str, Any] = {
        **configuration.network,
        "allow-insecure-host": list(configuration.insecure),
        "find-links": links,
        # uv would pass over pages of links that are indexes as well.
        "no-index": configuration.no_index and not rest,
        "index-strategy": configuration.strategy,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items() if value]
    for number, (name, index) in enumerate(rest):
        only = configuration.no_index and number == 0
        lines += _render_index(name, index, default=index.default or only)
    return "\n".join(lines) + "\n"


def _render_index(name: str, index: Index, *, default: bool) -> list[str]:
    options: dict[str, Any] = {
        "name": name,
        "url": index.url,
        "default": default,
        "explicit": index.explicit,
        "format": "flat" if index.flat else None,
    }
    return [
        "[[index]]",
        *(f"{key} = {json.dumps(value)}" for key, value in options.items() if value),
    ]


def render_project(
    configuration: Configuration, names: Mapping[str, Index], requirements: Sequence[str]
) -> str | None:
    """Return a `pyproject.toml` of requirements, None where no source names an index for one.

    uv follows `[tool.uv.sources]` for a project's own requirements only.
    """
    called = {index.name: name for name, index in names.items() if index.name}
    sources = []
    for requirement in requirements:
        found = _NAME.match(requirement)
        name = canonicalize_name(found[0]) if found else ""
        entries = [
            ", ".join(
                f"{key} = {json.dumps(value)}"
                for key, value in {**entry, "index": called[entry["index"]]}.items()
                if key in ("index", "marker")
            )
            for entry in configuration.sources.get(name, ())
            if entry["index"] in called
        ]
        if entries:
            sources.append(f"{name} = [{', '.join(f'{{ {entry} }}' for entry in entries)}]")
    if not sources:
        return None
    lines = ["[project]", 'name = "envboot-request"', 'version = "0"']
    lines += [f"dependencies = {json.dumps(list(requirements))}", "[tool.uv.sources]", *sources]
    for name, index in names.items():
        if index.name:
            lines += [
                line.replace("[[index]]", "[[tool.uv.index]]", 1)
                for line in _render_index(name, index, default=index.default)
            ]
    return "\n".join(lines) + "\n"
