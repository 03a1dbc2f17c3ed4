"""Whether an installed environment is whole, before every later machine gets a copy of it.

A disk that is full for a moment leaves short files behind, and not every program says so: Python
before 3.12.8 and 3.13.1 writes half of a byte-code file without an error (gh-126606).
"""

from __future__ import annotations

import csv
import glob
import os
import subprocess
from typing import List

from .wire import AgentError

# Prints every file of byte code that cannot be read; a file is left out if it is not UTF-8.
PROGRAM = """
import marshal, os, sys
for place, _, names in os.walk(sys.argv[1]):
    for name in names:
        if name.endswith(".pyc"):
            try:
                with open(os.path.join(place, name), "rb") as stream:
                    marshal.loads(stream.read()[16:])
            except (EOFError, TypeError, ValueError):
                print(os.path.relpath(os.path.join(place, name), sys.argv[1]))
"""


def remove_damaged(tree: str, env: str, python: str) -> List[str]:
    """Remove byte code that cannot be read from a kept base and the environment made of it.

    Python compiles what is missing, and trusts what is there. `python` is the interpreter that
    has compiled it. Returns the paths below both.
    """
    done = subprocess.run([python, "-ISc", PROGRAM, tree], capture_output=True, check=False)
    found = done.stdout.decode(errors="surrogateescape").splitlines()
    for path in found:
        os.unlink(os.path.join(tree, path))
        if os.path.lexists(os.path.join(env, path)):
            os.unlink(os.path.join(env, path))
    return found


def refuse_short_files(tree: str) -> None:
    """Raise AgentError for files that are missing, or shorter than their RECORD says.

    Longer ones and other content are left alone: several packages may bring one file, and
    installers write scripts anew.
    """
    for record in glob.glob(tree + "/lib/python*/site-packages/*.dist-info/RECORD"):
        site = os.path.dirname(os.path.dirname(record))
        with open(record, encoding="utf-8", newline="") as stream:
            for row in csv.reader(stream):
                if len(row) == 3 and row[2].isdigit():
                    _check(os.path.normpath(os.path.join(site, row[0])), int(row[2]))


def _check(path: str, size: int) -> None:
    try:
        found = os.lstat(path).st_size
    except OSError:
        found = 0
    if found < size:
        raise AgentError("%s has %d bytes, its RECORD says %d" % (path, found, size))
