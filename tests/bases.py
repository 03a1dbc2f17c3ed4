"""What a publisher writes for a base, for tests that need no environment behind it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from envboot.publish.archive_index import ArchiveIndex, Frame

if TYPE_CHECKING:
    from envboot.manifest import Manifest


def make_index(manifest: Manifest, archive: bytes) -> bytes:
    """Return the index of an archive that is one frame."""
    sha256 = hashlib.sha256(archive).hexdigest()
    frame = Frame(offset=0, size=len(archive), raw=len(archive), sha256=sha256, owner="")
    index = ArchiveIndex(
        base=manifest.base_digest, size=len(archive), raw=len(archive), files=1, frames=(frame,)
    )
    return json.dumps(index.to_dict()).encode()
