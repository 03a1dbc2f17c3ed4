"""systemd itself reads our units, and the journal our catalog."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from envboot import agent_payload as payload
from envboot.agent import wire
from envboot.publish.grants import WantedGrant
from envboot.userdata import Job, LaunchPath, Life, Rung
from envboot.userdata.contents import COMMAND_UNITS, Draft, collect
from envboot.userdata.contents import UNITS as UNIT_FOLDER
from tests.userdata.conftest import make_grants, make_manifest

UNITS = (
    "envboot.service",
    "envboot-publish.service",
    "envboot-run.service",
    "envboot-dask-scheduler.service",
    "envboot-dask-worker.service",
    "envboot-life.service",
    "envboot-sync.service",
    "envboot-watch.service",
    "envboot.target",
)
ROOTS = ("envboot", "envboot-life", "envboot-publish", "envboot-sync", "envboot-watch")
FIELDS = {"STAGE", "DIGEST", "BYTES", "MS", "SOURCE", "ERROR", "NOTICE", "NOTICE_TIME"}


def entries() -> dict[str, str]:
    """The catalog's entries by message id."""
    text = payload.template("envboot.catalog")
    _, *blocks = re.split(r"^-- ([0-9a-f]{32})\n", text, flags=re.MULTILINE)
    return dict(zip(blocks[::2], blocks[1::2], strict=True))


@pytest.mark.subprocess
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    for name in UNITS:
        (tmp_path / name).write_text(payload.without_comments(payload.template(name)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in UNITS)],
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


def shipped_units() -> dict[str, str]:
    """The text of every unit that a document carries, by name."""
    manifest = make_manifest(3)
    grants = replace(
        make_grants(manifest),
        wanted=WantedGrant(get="http://h/wanted-1.json", signer="ssh-ed25519 AAAA"),
    )
    job = Job(command=["true"], watch=True, life=Life())
    draft = Draft(
        manifest=manifest, grants=grants, job=job, parts=(), agent={}, path=LaunchPath.NOCLOUD
    )
    files = collect(draft, Rung.PLAIN)
    return {Path(file.path).name: file.text for file in files if file.path.startswith(UNIT_FOLDER)}


@pytest.mark.subprocess
@pytest.mark.parametrize("name", ROOTS)
def test_units_of_root_are_exposed_by_3_at_most(name: str, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    unit = tmp_path / f"{name}.service"
    unit.write_text(shipped_units()[unit.name])
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager"]
    done = subprocess.run([*command, unit], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", COMMAND_UNITS)
def test_a_command_can_gain_no_privileges_and_loses_nothing_else(name: str) -> None:
    text = payload.template(f"{name}.service")
    assert "\nNoNewPrivileges=yes\n" in text
    taken = re.findall("(?m)^(?:Private|Protect|Restrict|SystemCall|Capability|Device).*", text)
    assert taken == []


@pytest.mark.parametrize("name", UNITS)
def test_no_unit_waits_for_the_end_of_the_boot(name: str) -> None:
    ordered = re.findall(r"^(?:After|Before|Requires)=(.*)$", payload.template(name), re.MULTILINE)
    assert not {"cloud-final", "cloud-config", "multi-user"} & {
        word.partition(".")[0] for line in ordered for word in line.split()
    }


def test_the_catalog_explains_every_message_and_no_other() -> None:
    assert sorted(entries()) == sorted(wire.MESSAGE_IDS.values())


@pytest.mark.parametrize(("kind", "number"), wire.MESSAGE_IDS.items())
def test_each_entry_has_a_subject_an_explanation_and_known_fields(kind: str, number: str) -> None:
    header, _, text = entries()[number].partition("\n\n")
    assert re.match(r"Subject: .+\nDefined-By: envboot$", header), kind
    assert len(text.split()) > 8
    assert set(re.findall(r"@ENVBOOT_(\w+)@", header + text)) <= FIELDS
    assert set(re.findall(r"@(\w+)@", header + text)) == {
        f"ENVBOOT_{field}" for field in re.findall(r"@ENVBOOT_(\w+)@", header + text)
    }


@pytest.mark.subprocess
def test_the_journal_reads_the_catalog_from_where_we_put_it(tmp_path: Path) -> None:
    if not shutil.which("journalctl"):
        pytest.skip("needs journalctl")
    folder = tmp_path / "usr/local/lib/systemd/catalog"
    folder.mkdir(parents=True)
    (folder / "envboot.catalog").write_text(payload.template("envboot.catalog"))
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    root = f"--root={tmp_path}"
    subprocess.run(["journalctl", root, "--update-catalog"], check=True)
    listed = subprocess.run(
        ["journalctl", root, "--list-catalog"], text=True, capture_output=True, check=True
    ).stdout
    found = dict(line.split(" ", 1) for line in listed.splitlines())
    assert sorted(found) == sorted(wire.MESSAGE_IDS.values())
    assert found[wire.MESSAGE_IDS["ready"]].startswith("envboot: Environment @ENVBOOT_DIGEST@")
