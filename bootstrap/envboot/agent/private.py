"""Conda packages that this machine cannot fetch itself: from the bucket, by the client."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any, Dict, List

from . import fetch, tar
from .host import Host
from .wire import AgentError


def bring(host: Host, conda: List[Dict[str, Any]], folder: str) -> None:
    """Write the packages of the tar in the bucket below `folder`, at `host/path` of their URLs.

    The manifest pins each one. Nothing else is written: micromamba reads its configuration and its
    cache of unpacked packages there.

    Raises:
        AgentError: the tar has something else, or a package that is not what was pinned.
    """
    wanted = {package["url"].partition("://")[2].lstrip("/"): package for package in conda}
    data = memoryview(fetch.read(host.grants["packages"]["get"]))
    for path, kind, _, size, content, _ in tar.read(data):
        package = wanted.get(path, {})
        name = "sha256" if "sha256" in package else "md5"
        is_whole = kind == tar.FILE and len(content) == size
        if not is_whole or hashlib.new(name, content).hexdigest() != package.get(name):
            raise AgentError("%r in the packages of the bucket is not what was pinned" % path)
    with contextlib.closing(tar.Tree(folder)) as tree:
        tar.extract(data, tree)
