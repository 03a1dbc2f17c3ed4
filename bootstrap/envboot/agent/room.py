"""Room for a layer: what conda installed of the same distributions is removed first."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
from typing import Any, Dict

from .host import find_text

REPLACED = "/lib/envboot/replaced/"
"""Below the prefix: a directory for each distribution of conda that a layer has replaced."""


def make(env: str, layer: Dict[str, Any]) -> None:
    """Remove the distributions of conda that a layer brings too, as the installer here did.

    Modules that only conda's version had could still be imported. What was removed is noted by
    name: the base alone no longer has it.
    """
    names = [project["name"] for project in layer.get("projects", ())]
    if not os.path.isdir(env + "/conda-meta"):
        return
    for record in glob.glob(env + "/lib/python*/site-packages/*.dist-info/RECORD"):
        info = os.path.dirname(record)
        site, found = os.path.split(info)
        name = re.sub("[-_.]+", "-", found.split("-")[0]).lower()
        if name not in names:
            continue
        for row in find_text(record).splitlines():
            path = os.path.normpath(site + "/" + row.rsplit(",", 2)[0].strip('"'))
            if path.startswith(env + "/"):
                folder = os.path.dirname(path)
                with contextlib.suppress(OSError):
                    os.unlink(path)
                if folder.startswith(site + "/"):
                    shutil.rmtree(folder + "/__pycache__", ignore_errors=True)
                # An empty directory could be imported, as a namespace package.
                with contextlib.suppress(OSError):
                    os.removedirs(folder)
        shutil.rmtree(info, ignore_errors=True)
        os.makedirs(env + REPLACED + name, exist_ok=True)
