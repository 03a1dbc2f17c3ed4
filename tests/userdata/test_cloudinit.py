"""cloud-init 22.4.2 itself reads our documents: its processor, its schema, its handlers."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envboot.userdata import Document, LaunchPath, Rung, render
from envboot.userdata.parts import Part, parse_part
from tests.userdata.conftest import make_grants, make_manifest, sha

pytestmark = pytest.mark.subprocess

Judge = Callable[[bytes], dict[str, Any]]

FIRST = b"""#cloud-config
runcmd:
- [touch, /first]
write_files:
- {path: /first.txt, content: one}
hostname: first
"""
SECOND = FIRST.replace(b"first", b"second")
SMALL = {"__main__.py": "print('agent')\n"}


def decoded(document: Document) -> bytes:
    """What reaches cloud-init: the cloud, or its datasource, undoes base64."""
    return base64.b64decode(document.payload) if document.encoding else document.payload


def script() -> str:
    text = render(make_manifest(60), launch_path=LaunchPath.LOCAL, agent=SMALL).payload
    return text.decode()


@pytest.mark.parametrize(
    ("path", "packages", "rung"),
    [
        (LaunchPath.NOCLOUD, 60, Rung.PLAIN),
        (LaunchPath.EC2, 60, Rung.PLAIN),
        (LaunchPath.EC2, 200, Rung.GZIP),
        (LaunchPath.EC2_BASE64, 200, Rung.GZIP),
        (LaunchPath.GCE, 60, Rung.PLAIN),
        (LaunchPath.GCE, 2500, Rung.GZIP),
    ],
)
def test_every_encoding_gives_cloud_init_the_same_script(
    judge: Judge, path: LaunchPath, packages: int, rung: Rung
) -> None:
    manifest = make_manifest(packages)
    document = render(manifest, launch_path=path, agent=SMALL)
    plain = render(manifest, launch_path=LaunchPath.LOCAL, agent=SMALL).payload.decode()
    seen = judge(decoded(document))
    if path is LaunchPath.GCE:
        # An image that once booted by start-up script has a name of its own on record.
        forget = ' "$root/var/lib/envboot/instance"\n'
        assert forget in seen["parts"][0]["text"]
        plain = re.sub(r"(?m)^(rm -f .*)\n", lambda line: line[1] + forget, plain, count=1)
    assert document.rung is rung
    assert [(part["type"], part["text"]) for part in seen["parts"]] == [
        ("text/cloud-boothook", plain)
    ]
    assert Path(seen["hooks"][0]).read_text() == plain
    assert Path(seen["hooks"][0]).stat().st_mode & 0o777 == 0o700
    assert seen["warnings"] == []


def test_a_document_that_fetches_manifest_and_agent_is_read(judge: Judge) -> None:
    manifest = make_manifest(400)
    large = {"__main__.py": "".join(f"# {sha(i)}\n" for i in range(400))}
    grants = make_grants(manifest)
    document = render(manifest, launch_path=LaunchPath.EC2, grants=grants, agent=large)
    seen = judge(document.payload)
    assert document.rung is Rung.BOTH
    assert "zipfile" in seen["parts"][0]["text"]
    assert seen["warnings"] == []


def test_a_part_with_runcmd_and_write_files_stays_beside_ours(judge: Judge) -> None:
    part = parse_part("first.yaml", FIRST)
    document = render(make_manifest(60), launch_path=LaunchPath.EC2, agent=SMALL, parts=[part])
    seen = judge(document.payload)
    assert [row["type"] for row in seen["parts"]] == ["text/cloud-boothook", "text/cloud-config"]
    assert [row["errors"] for row in seen["parts"]] == [[], []]
    assert seen["parts"][0]["text"] == script()
    assert seen["parts"][1]["text"] == FIRST.decode()
    assert seen["merged"]["runcmd"] == [["touch", "/first"]]
    assert seen["merged"]["write_files"] == [{"path": "/first.txt", "content": "one"}]


def test_two_parts_keep_each_others_lists(judge: Judge) -> None:
    parts = [parse_part("first.yaml", FIRST), parse_part("second.yaml", SECOND)]
    document = render(make_manifest(3), launch_path=LaunchPath.QEMU, agent=SMALL, parts=parts)
    merged = judge(document.payload)["merged"]
    assert merged["runcmd"] == [["touch", "/first"], ["touch", "/second"]]
    assert [file["path"] for file in merged["write_files"]] == ["/first.txt", "/second.txt"]
    assert merged["hostname"] == "first"


def test_without_our_header_the_second_part_would_replace_the_first(judge: Judge) -> None:
    parts = [
        replace(parse_part(f"{name}.yaml", text), merge=None)
        for name, text in (("first", FIRST), ("second", SECOND))
    ]
    document = render(make_manifest(3), launch_path=LaunchPath.QEMU, agent=SMALL, parts=parts)
    assert judge(document.payload)["merged"]["runcmd"] == [["touch", "/second"]]


@pytest.mark.parametrize("key", ["merge_how", "merge_type"])
def test_a_part_that_states_how_to_merge_is_left_alone(judge: Judge, key: str) -> None:
    own = SECOND + f"{key}: list(prepend)+dict(recurse_list)+str()\n".encode()
    parts = [parse_part("first.yaml", FIRST), parse_part("second.yaml", own)]
    assert parts[1].merge is None
    document = render(make_manifest(3), launch_path=LaunchPath.QEMU, agent=SMALL, parts=parts)
    merged = judge(document.payload)["merged"]
    assert merged["runcmd"] == [["touch", "/second"], ["touch", "/first"]]


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\necho 'Grüße, 世界 😀' = \t \n",
        "#!/bin/sh\r\necho dos\r\n",
        "#!/bin/sh\nFrom here\n--envboot\n--envboot--\n" + "x" * 3000,
        "#!/bin/sh\necho 'no newline at the end'",
    ],
    ids=["unicode", "dos", "boundary", "open-end"],
)
def test_the_text_of_a_part_arrives_as_it_is(judge: Judge, text: str) -> None:
    part = parse_part("hello.sh", text.encode())
    document = render(make_manifest(3), launch_path=LaunchPath.QEMU, agent=SMALL, parts=[part])
    seen = judge(document.payload)
    assert seen["parts"][1]["text"] == text
    assert seen["warnings"] == []


def test_two_scripts_of_one_name_both_arrive(judge: Judge, tmp_path: Path) -> None:
    parts = [parse_part(f"{i}/setup.sh", f"#!/bin/sh\necho {i}\n".encode()) for i in (1, 2)]
    document = render(make_manifest(3), launch_path=LaunchPath.QEMU, agent=SMALL, parts=parts)
    judge(document.payload)
    written = tmp_path.glob("cloud/**/scripts/*")
    assert {file.name: file.read_text() for file in written} == {
        "setup.sh": "#!/bin/sh\necho 1\n",
        "setup-2.sh": "#!/bin/sh\necho 2\n",
    }


def test_a_jinja_part_keeps_its_type(judge: Judge) -> None:
    text = b"## template: jinja\n#cloud-config\nhostname: '{{ v1.region }}'\n"
    part = parse_part("name.yaml", text)
    document = render(make_manifest(3), launch_path=LaunchPath.QEMU, agent=SMALL, parts=[part])
    row = judge(document.payload)["parts"][1]
    assert (row["type"], row["text"]) == ("text/jinja2", text.decode())


def test_a_part_that_breaks_the_schema_is_told_apart(judge: Judge) -> None:
    part = Part(name="bad.yaml", type="text/cloud-config", text="#cloud-config\nruncmd: 5\n")
    document = render(make_manifest(3), launch_path=LaunchPath.QEMU, agent=SMALL, parts=[part])
    assert "runcmd: 5 is not of type 'array'" in judge(document.payload)["parts"][1]["errors"][0]
