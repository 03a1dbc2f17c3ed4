"""Resumable uploads as Cloud Storage has them; the server behind forgets their preconditions.

https://docs.cloud.google.com/storage/docs/resumable-uploads
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

PIECE = 256 * 1024
"""What arrives of a request that breaks off is kept in whole pieces."""


@dataclass(kw_only=True, slots=True)
class Resumable:
    """One upload: where it goes, what is there so far, and in the end the service's answer.

    `taken` is how many bytes came in whole requests.
    """

    bucket: str
    name: str
    condition: str | None
    data: bytes = b""
    taken: int = 0
    answer: tuple[int, bytes] | None = None

    def take(self, span: str, body: bytes) -> int | None:
        """Add what a request brings; returns the status of one that is not the last."""
        self.taken += len(body)
        found = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)", span)
        if found is None:
            self.data = body
            return None
        total = int(found[3])
        if found[1]:
            if int(found[1]) != len(self.data) or len(body) != int(found[2]) - int(found[1]) + 1:
                return 400
            self.data += body
        return None if len(self.data) == total else 308

    @property
    def span(self) -> dict[str, str]:
        """The header that says how much is there."""
        return {"Range": f"bytes=0-{len(self.data) - 1}"} if self.data else {}


class Uploads(dict[str, Resumable]):
    """Those under way, by the ids in their URLs."""

    def begin(self, bucket: str, name: str, condition: str | None) -> str:
        """Return the id of a new one."""
        upload_id = secrets.token_hex(16)
        self[upload_id] = Resumable(bucket=bucket, name=name, condition=condition)
        return upload_id
