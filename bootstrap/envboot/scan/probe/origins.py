"""Where a distribution was installed from, when it was not an index."""

from __future__ import annotations

import json
import os
import re

from .found import find

TYPE_CHECKING = False  # `typing` takes 3 ms to import.
if TYPE_CHECKING:
    from typing import Any

_PTH = re.compile(rb'\n([^/,\n"]+\.pth),')
# setuptools' finders, scikit-build-core's and meson-python's loaders, those of `editables`.
_LOADER = re.compile(r"import (\w*editable\w*)")
_QUOTED = re.compile(r"""['"](/[^'"\n]+)['"]""")
_KINDS = {
    "url": str,
    "subdirectory": str,
    "vcs_info": dict,
    "archive_info": dict,
    "dir_info": dict,
}


def parse_direct_url(data: bytes) -> dict[str, Any]:
    """Return PEP 610's document, its members being of the kinds that everyone relies on."""
    document = json.loads(data)
    if not isinstance(document, dict) or not isinstance(document.get("url"), str):
        raise ValueError("it has no `url`")
    for name, kind in _KINDS.items():
        if name in document and not isinstance(document[name], kind):
            raise ValueError("its `%s` is not a %s" % (name, kind.__name__))
    return document


def editable_url(project: str) -> dict[str, Any]:
    """Return the direct URL that pip writes for an editable install."""
    from urllib.parse import quote

    return {"url": "file://" + quote(project), "dir_info": {"editable": True}}


def find_project(record: bytes) -> str | None:
    """Return the project behind a `.pth` file of RECORD that leads to a folder of its own.

    Such a file names the folder, or imports a module that has the paths of the project's files.
    """
    for match in _PTH.findall(b"\n" + record) if b".pth," in record else ():
        for line in read_lines(os.fsdecode(match)):
            loader = _LOADER.match(line)
            if loader:
                source = "\n".join(read_lines(loader.group(1) + ".py"))
                paths: list[str] = _QUOTED.findall(source)
            else:
                paths = [line] if os.path.isabs(line) else []
            for path in paths:
                if os.path.exists(path):
                    return project_root(path)
    return None


def project_root(path: str) -> str:
    """Return the nearest folder above that is a project; the path itself where none is."""
    folder = path
    while folder != os.path.dirname(folder):
        for name in ("pyproject.toml", "setup.py", "setup.cfg"):
            if os.path.isfile(os.path.join(folder, name)):
                return folder
        folder = os.path.dirname(folder)
    return path


def link_target(entry: str) -> str:
    """Return the folder that an `.egg-link` names."""
    return (read_lines(entry) or [""])[0]


def read_lines(path: str) -> list[str]:
    """Return a file's lines without blanks around them; none where there is no file."""
    return [os.fsdecode(line).strip() for line in (find(path) or b"").splitlines()]
