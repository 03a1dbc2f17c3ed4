"""A damaged layer in the bucket: machines refuse it, and the client replaces it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envboot.errors import Exit

if TYPE_CHECKING:
    from tests.launch.workspace import Workspace

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


def test_a_layer_that_machines_refuse_is_replaced_by_the_launch(warm: Workspace) -> None:
    assert warm.launch("--", "true").returncode == Exit.OK
    (layer,) = (warm.state / "store/layers").glob("*.tar.zst")
    whole = layer.read_bytes()
    layer.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    done = warm.launch("--", "true")
    assert done.returncode == Exit.GUEST
    assert "so launch again" in done.stderr
    assert layer.read_bytes() == whole
    assert warm.launch("--", "true").returncode == Exit.OK
