"""Documents, their sizes and the ladder that keeps them below each launch path's limit."""

from __future__ import annotations

import base64
import gzip
import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envboot.errors import RenderError
from envboot.userdata import Job, LaunchPath, Life, Rung, render
from envboot.userdata.contents import COMMAND_UNITS
from envboot.userdata.encoding import gzip_bytes, squeeze
from envboot.userdata.parts import parse_part
from tests.userdata.conftest import make_grants, make_manifest, make_role_grants, sha

SMALL = {"__main__.py": "print('agent')\n"}
COMMAND = ("python", "train.py")
Golden = Callable[[str, Any], None]


def explain(error: RenderError) -> str:
    return "\n".join([error.message, *error.causes, f"hint: {error.hint}"]) + "\n"


@pytest.mark.parametrize("path", [LaunchPath.LOCAL, LaunchPath.NOCLOUD])
def test_documents_are_pinned(golden: Golden, path: LaunchPath) -> None:
    manifest = make_manifest(3, layer=True)
    part = parse_part("setup.yaml", b"#cloud-config\nruncmd: [[touch, /x]]\n")
    document = render(
        manifest,
        launch_path=path,
        grants=make_grants(manifest),
        parts=[part] if path.rules.mime else [],
        agent=SMALL,
        job=Job(command=COMMAND, environment={"SEED": "1"}),
    )
    golden(f"userdata-{path.value}.txt", document.payload)


def test_a_document_of_a_role_is_pinned(golden: Golden) -> None:
    manifest = make_manifest(3)
    document = render(
        manifest,
        launch_path=LaunchPath.EC2,
        grants=make_role_grants(manifest),
        agent={**SMALL, "agent/aws.py": "# signs\n", "agent/watch.py": "# looks\n"},
        job=Job(watch=True, hook="checkpoint"),
    )
    assert document.rung is Rung.PLAIN
    golden("userdata-role.txt", document.payload)


def test_a_document_that_fetches_everything_is_pinned(golden: Golden) -> None:
    manifest = make_manifest(400)
    noise = {"__main__.py": "".join(f"# {sha(i)}\n" for i in range(400))}
    grants = make_grants(manifest)
    document = render(manifest, launch_path=LaunchPath.EC2, grants=grants, agent=noise)
    assert document.rung is Rung.BOTH
    golden("userdata-ec2-both-by-url.txt", gzip.decompress(document.payload))


@pytest.mark.parametrize(
    ("packages", "url_size", "rung"),
    [
        (60, 412, Rung.EXTRAS),
        (400, 412, Rung.MANIFEST),
        (100, 1640, Rung.MANIFEST),
        (400, 1640, Rung.MANIFEST),
    ],
)
def test_ec2_takes_the_first_rung_that_fits(packages: int, url_size: int, rung: Rung) -> None:
    manifest = make_manifest(packages)
    document = render(
        manifest,
        launch_path=LaunchPath.EC2,
        grants=make_grants(manifest, url_size=url_size),
        job=Job(command=COMMAND),
    )
    assert document.rung is rung
    assert len(document.payload) == document.size <= document.limit == 16_384  # type: ignore[operator]


def test_an_end_of_its_own_costs_a_document_little_and_is_there_only_where_asked_for() -> None:
    manifest = make_manifest(60)
    grants = make_grants(manifest, url_size=412)
    life = Life(end=1_800_000_000, idle=600, done=True)
    plain, ending = (
        render(
            manifest,
            launch_path=LaunchPath.EC2,
            grants=grants,
            job=Job(command=COMMAND, life=each),
        )
        for each in (None, life)
    )
    assert plain.size < ending.size < plain.size + 110
    text = gzip.decompress(ending.payload).decode()
    assert '"life":{"done":1,"end":1800000000,"idle":600}' in text
    assert " envboot-life.service" in text
    assert "envboot-life" not in gzip.decompress(plain.payload).decode()
    # Without a bucket nobody could fetch the module.
    alone = render(manifest, launch_path=LaunchPath.GCE, job=Job(life=Life()))
    assert "/lib/agent/life.py\n" in alone.payload.decode()
    assert '"life":{}' in alone.payload.decode()


@pytest.mark.parametrize("watch", [False, True])
@pytest.mark.parametrize(
    ("packages", "rung"), [(20, Rung.EXTRAS), (60, Rung.MANIFEST), (400, Rung.MANIFEST)]
)
def test_a_document_of_a_role_fits_ec2_too(packages: int, rung: Rung, watch: bool) -> None:
    manifest = make_manifest(packages)
    document = render(
        manifest,
        launch_path=LaunchPath.EC2,
        grants=make_role_grants(manifest),
        job=Job(
            command=COMMAND, watch=watch, hook="/usr/local/bin/checkpoint --now" if watch else None
        ),
    )
    assert document.rung is rung
    # A hook, variables and parts want room, too.
    smallest = len(squeeze(gzip.decompress(document.payload)))
    assert smallest <= 16_384 - (2_400 if rung is Rung.MANIFEST else 0)


def test_what_zlib_leaves_just_too_large_is_compressed_harder() -> None:
    manifest = make_manifest(60)
    grants, chance, seen = make_grants(manifest), random.Random(1), []
    for size in range(500, 4_000, 100):
        job = Job(command=COMMAND, environment={"SEED": chance.randbytes(size).hex()})
        document = render(manifest, launch_path=LaunchPath.EC2, grants=grants, job=job)
        assert document.size == len(document.payload) == sum(row.counted for row in document.costs)
        text = gzip.decompress(document.payload)
        seen += [document.rung] if len(gzip_bytes(text)) > 16_384 else []
    assert seen
    assert set(seen) == {Rung.EXTRAS, Rung.MANIFEST}


@pytest.mark.parametrize("has_grants", [False, True])
def test_what_reads_secrets_of_a_cloud_travels_where_one_is_named(has_grants: bool) -> None:
    manifest, place = make_manifest(3), "projects/p/secrets/s/versions/1"
    grants = make_grants(manifest) if has_grants else None
    for secrets, command in (({"DB": place}, COMMAND), ({}, COMMAND), ({"DB": place}, ())):
        job = Job(command=command, secrets=secrets)
        document = render(manifest, launch_path=LaunchPath.GCE, grants=grants, job=job)
        assert document.rung is Rung.PLAIN
        text = document.payload.decode()
        named = bool(secrets and command)
        assert (f'"secrets":{{"DB":"{place}"}}' in text) is named
        for name in ("secret_manager", "role", "gcp"):
            assert (f"/lib/agent/{name}.py\n" in text) is named
        assert "/lib/agent/aws.py\n" not in text


@pytest.mark.parametrize(("kind", "other"), [("aws", "gcp"), ("gcp", "aws")])
def test_of_two_clouds_only_the_modules_of_ones_own_travel(kind: str, other: str) -> None:
    manifest = make_manifest(3)
    grants = make_role_grants(manifest)
    assert grants.auth
    grants = replace(grants, auth=replace(grants.auth, kind=kind))
    document = render(manifest, launch_path=LaunchPath.GCE, grants=grants)
    assert document.rung is Rung.PLAIN
    text = document.payload.decode()
    for name in ("role", kind):
        assert f"/lib/agent/{name}.py\n" in text
    assert f"/lib/agent/{other}.py\n" not in text
    urls = render(manifest, launch_path=LaunchPath.GCE, grants=make_grants(manifest))
    text = urls.payload.decode()
    assert not [name for name in ("role", "aws", "gcp", "_copy") if f"{name}.py\n" in text]


def test_what_a_role_signs_with_travels_only_where_there_is_one() -> None:
    manifest = make_manifest(60)
    role, urls = make_role_grants(manifest), make_grants(manifest)
    for grants, watch, wanted in (
        *((role, False, True), (role, True, True)),
        *((urls, False, False), (urls, True, False)),
    ):
        document = render(
            manifest,
            launch_path=LaunchPath.EC2,
            grants=grants,
            job=Job(command=COMMAND, watch=watch),
        )
        text = gzip.decompress(document.payload).decode()
        assert document.rung in (Rung.EXTRAS, Rung.MANIFEST)
        assert ("/lib/agent/aws.py\n" in text) == wanted
        assert "/lib/agent/watch.py\n" not in text
        assert ("/envboot-watch.service\n[Unit]" in text) == watch
        assert "/lib/agent/run.py\n" not in text, "who has a seat asks the bucket for it, too"
    bare = render(manifest, launch_path=LaunchPath.LOCAL, job=Job(watch=True)).payload.decode()
    assert "/lib/agent/aws.py\n" in bare
    assert "/lib/agent/watch.py\n" in bare
    assert "agent/watch.py" not in render(manifest, launch_path=LaunchPath.LOCAL).payload.decode()


def test_a_command_without_a_seat_needs_no_bucket_where_there_is_room() -> None:
    for packages, wanted in ((1, Rung.EXTRAS), (60, Rung.MANIFEST)):
        manifest = make_manifest(packages)
        grants = replace(make_role_grants(manifest), seat=None)
        document = render(
            manifest, launch_path=LaunchPath.EC2, grants=grants, job=Job(command=COMMAND)
        )
        text = gzip.decompress(document.payload).decode()
        assert document.rung is wanted
        assert ("/lib/agent/run.py\n" in text) == (wanted is Rung.EXTRAS)
        assert "/lib/agent/seat.py\n" not in text


@pytest.mark.parametrize("unit", COMMAND_UNITS)
def test_the_command_has_one_unit_and_the_target_wants_it(unit: str) -> None:
    manifest = make_manifest(3)
    document = render(
        manifest,
        launch_path=LaunchPath.LOCAL,
        grants=make_grants(manifest),
        job=Job(command=COMMAND, unit=unit),
    )
    text = document.payload.decode()
    for each in COMMAND_UNITS:
        path = f"/etc/systemd/system/{each}.service"
        assert (f" 0644 {path}\n[Unit]" in text) == (each == unit)
        assert bool(re.search(rf'^rm -f.* "\$root{path}"', text, re.MULTILINE)) == (each != unit)
    others = "envboot-watch.service envboot-sync.service"
    assert f"\nWants=envboot-publish.service {unit}.service {others}\n" in text
    bare = render(manifest, launch_path=LaunchPath.LOCAL, job=Job(unit=unit)).payload.decode()
    [removed] = re.findall("^rm -f .*$", bare, re.MULTILINE)
    assert all(f'"$root/etc/systemd/system/{each}.service"' in removed for each in COMMAND_UNITS)


def test_a_role_cannot_fetch_the_agent_that_would_sign_for_it() -> None:
    manifest = make_manifest(400)
    noise = {"__main__.py": "".join(f"# {sha(i)}\n" for i in range(600))}
    with pytest.raises(RenderError) as caught:
        render(manifest, launch_path=LaunchPath.EC2, grants=make_role_grants(manifest), agent=noise)
    note = "only the agent itself can ask as the machine's role"
    assert f"{Rung.AGENT.value}: {note}" in caught.value.causes
    assert f"{Rung.BOTH.value}: {note}" in caught.value.causes
    assert "--store" not in str(caught.value.hint)


def test_without_a_bucket_60_packages_fit_ec2_with_all_that_a_machine_needs() -> None:
    document = render(make_manifest(60), launch_path=LaunchPath.EC2, job=Job(command=COMMAND))
    text = gzip.decompress(document.payload).decode()
    assert document.rung is Rung.GZIP
    assert "agent/explain.py" in text
    assert "agent/pack.py" not in text
    assert "/grants.json\n" not in text


def test_what_moved_is_granted_and_what_stayed_is_not() -> None:
    manifest = make_manifest(3)
    grants = make_grants(manifest)
    assert grants.manifest
    assert grants.agent
    agent = {"__main__.py": "x = 1\n", "agent/pack.py": "# the packer\n"}
    inline = render(manifest, launch_path=LaunchPath.LOCAL, grants=grants, agent=agent)
    assert grants.manifest.get not in inline.payload.decode()
    assert grants.agent.get not in inline.payload.decode()
    large = make_manifest(400)
    moved = render(large, launch_path=LaunchPath.EC2, grants=grants, agent=agent)
    text = gzip.decompress(moved.payload).decode()
    assert moved.rung is Rung.MANIFEST
    assert "# the packer" not in text
    assert grants.manifest.get in text
    assert grants.agent.get in text


def test_an_overflow_says_what_every_part_costs(golden: Golden) -> None:
    manifest = make_manifest(400)
    noise = random.Random(1).randbytes(18_000).hex()
    part = parse_part("big.sh", f"#!/bin/sh\n: {noise}\n".encode())
    agent = {**SMALL, "agent/pack.py": "# p\n"}
    with pytest.raises(RenderError) as caught:
        render(
            manifest,
            launch_path=LaunchPath.EC2,
            grants=make_grants(manifest),
            parts=[part],
            agent=agent,
        )
    golden("overflow-part.txt", explain(caught.value))


@pytest.mark.parametrize(
    ("grants", "imds", "said"),
    [
        (make_grants, None, None),
        (make_grants, "allow", "allow"),
        (make_role_grants, None, "allow"),
        (make_role_grants, "deny", None),
    ],
)
def test_the_metadata_service_is_open_where_a_role_or_the_user_says_so(
    grants: Callable[..., Any], imds: Any, said: str | None
) -> None:
    manifest = make_manifest(3)

    def config(job: Job) -> dict[str, Any]:
        document = render(
            manifest, launch_path=LaunchPath.NOCLOUD, grants=grants(manifest), job=job, agent=SMALL
        )
        text = document.payload.decode().partition("/config.json\n")[2].partition("\n")[0]
        found: dict[str, Any] = json.loads(text)
        return found

    assert config(Job(command=COMMAND, imds=imds)).get("imds") == said
    assert config(Job(watch=True, hook="true", imds=imds)).get("imds") == said
    # Nobody but root runs anything then.
    assert "imds" not in config(Job(watch=True, imds=imds))


def test_an_overflow_without_signed_urls_asks_for_a_bucket(golden: Golden) -> None:
    with pytest.raises(RenderError) as caught:
        render(make_manifest(400), launch_path=LaunchPath.EC2, agent=SMALL)
    golden("overflow-no-bucket.txt", explain(caught.value))
    assert "--store" in str(caught.value.hint)


def test_a_rung_whose_url_is_not_granted_is_left_out() -> None:
    manifest = make_manifest(400)
    grants = replace(make_grants(manifest), manifest=None)
    with pytest.raises(RenderError) as caught:
        render(manifest, launch_path=LaunchPath.EC2, grants=grants)
    assert "manifest by signed URL: no signed URL of the manifest" in caught.value.causes


@pytest.mark.parametrize("path", list(LaunchPath))
@pytest.mark.parametrize("packages", [3, 200])
def test_costs_sum_up_to_the_document(path: LaunchPath, packages: int) -> None:
    document = render(make_manifest(packages), launch_path=path, agent=SMALL)
    assert sum(cost.counted for cost in document.costs) == document.size
    if not document.encoding:
        assert document.size == len(document.payload)


def test_each_path_gets_its_own_encoding() -> None:
    found = {path: render(make_manifest(200), launch_path=path, agent=SMALL) for path in LaunchPath}
    assert {path.value: (d.rung.name, d.encoding) for path, d in found.items()} == {
        "ec2": ("GZIP", None),
        "ec2-base64": ("GZIP", "base64"),
        "terraform": ("GZIP", "base64"),
        "gce": ("PLAIN", None),
        "gce-startup-script": ("PLAIN", None),
        "nocloud": ("PLAIN", None),
        "qemu": ("PLAIN", None),
        "local": ("PLAIN", None),
    }
    ec2 = found[LaunchPath.EC2].payload
    assert base64.b64decode(found[LaunchPath.EC2_BASE64].payload) == ec2
    assert found[LaunchPath.EC2_BASE64].size == len(ec2)
    assert gzip.decompress(ec2) == found[LaunchPath.NOCLOUD].payload
    assert found[LaunchPath.LOCAL].payload.startswith(b"#!/bin/sh\n")


def test_gce_counts_what_it_stores() -> None:
    document = render(make_manifest(2500), launch_path=LaunchPath.GCE, agent=SMALL)
    assert (document.rung, document.encoding) == (Rung.GZIP, "base64")
    assert document.size == len(document.payload) <= 262_144


def test_gzip_carries_no_time() -> None:
    payload = render(make_manifest(200), launch_path=LaunchPath.EC2, agent=SMALL).payload
    assert payload[:10] == b"\x1f\x8b\x08\0\0\0\0\0\2\xff"


@pytest.mark.parametrize(
    "path", [LaunchPath.GCE_STARTUP_SCRIPT, LaunchPath.LOCAL], ids=lambda path: path.value
)
def test_a_path_of_one_script_refuses_parts(path: LaunchPath) -> None:
    part = parse_part("setup.sh", b"#!/bin/sh\n")
    with pytest.raises(RenderError, match=f"Cannot add parts to launch path `{path.value}`"):
        render(make_manifest(3), launch_path=path, parts=[part], agent=SMALL)


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(command=st.lists(words), environment=st.dictionaries(words, words))
@settings(deadline=None)
def test_the_same_arguments_give_the_same_ascii_bytes(
    command: list[str], environment: dict[str, str]
) -> None:
    documents = [
        render(
            make_manifest(2),
            launch_path=LaunchPath.NOCLOUD,
            agent=SMALL,
            job=Job(command=command, environment=order),
        ).payload
        for order in (environment, dict(reversed(environment.items())))
    ]
    assert documents[0] == documents[1]
    assert documents[0].isascii()


def test_the_jinja_header_is_never_ours() -> None:
    for path in LaunchPath:
        payload = render(make_manifest(2), launch_path=path).payload
        assert b"template: jinja" not in payload


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("#cloud-config\n{}\n", "text/cloud-config"),
        ("\n #Cloud-Config-Archive\n[]\n", "text/cloud-config-archive"),
        ("#cloud-config-jsonp\n[]\n", "text/cloud-config-jsonp"),
        ("#cloud-boothook\n#!/bin/sh\n", "text/cloud-boothook"),
        ("#include https://files.test/x\n", "text/x-include-url"),
        ("#include-once\nhttps://files.test/x\n", "text/x-include-once-url"),
        ("#part-handler\n", "text/part-handler"),
        ("#!/usr/bin/env python3\n", "text/x-shellscript"),
        ("## template: jinja\n#cloud-config\n", "text/jinja2"),
    ],
)
def test_a_part_is_what_it_begins_with(text: str, kind: str) -> None:
    assert parse_part("part", text.encode()).type == kind


def test_a_named_type_wins() -> None:
    kind = "text/x-shellscript-per-boot"
    assert parse_part("x.sh", b"#!/bin/sh\n", type=kind).type == kind


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"echo hello\n", "Cannot tell what `x` is: it begins with `echo hello`"),
        (b"\x1f\x8b\x08\0", "Cannot add `x`, which is gzip"),
        (b"#!/bin/sh\n\xff", "Expected `x` in UTF-8"),
        (b"Content-Type: multipart/mixed\n", "Cannot add `x`, which is a MIME document itself"),
        (b"#cloud-config\n- a\n", "Expected a mapping in `x`, found a list"),
        (b"#cloud-config\na: [\n", "Cannot read `x` as YAML"),
    ],
)
def test_a_part_that_cloud_init_could_not_read_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(RenderError) as caught:
        parse_part("x", data)
    assert caught.value.message == message


def test_an_unknown_type_of_part_is_refused() -> None:
    with pytest.raises(RenderError, match="Expected a type of part, found `text/plain`"):
        parse_part("x", b"", type="text/plain")


@pytest.mark.parametrize("path", [LaunchPath.GCE, LaunchPath.GCE_STARTUP_SCRIPT])
def test_on_compute_engine_googles_notices_are_looked_for(path: LaunchPath) -> None:
    made = render(
        make_manifest(1), launch_path=path, job=Job(watch=True, hook="a b")
    ).payload.decode()
    assert '"watch":{"hook":"a b","kind":"gcp"}' in made
    for module, wanted in (("watch", True), ("gcp", True), ("role", True), ("aws", False)):
        assert (f"/lib/agent/{module}.py\n" in made) == wanted


def test_only_a_start_up_script_asks_for_the_machines_id() -> None:
    manifest = make_manifest(1)
    documents = {
        path: render(manifest, launch_path=path, agent=SMALL).payload.decode()
        for path in (LaunchPath.GCE, LaunchPath.GCE_STARTUP_SCRIPT, LaunchPath.LOCAL)
    }
    asks = {path for path, text in documents.items() if "computeMetadata/v1/instance/id" in text}
    assert asks == {LaunchPath.GCE_STARTUP_SCRIPT}
    # What an image without cloud-init has left must not stand for what cloud-init says.
    cut = re.compile(r'^rm -f.* "\$root/var/lib/envboot/instance"', re.MULTILINE)
    found = [cut.search(text) is not None for text in documents.values()]
    assert found == [True, False, False]
