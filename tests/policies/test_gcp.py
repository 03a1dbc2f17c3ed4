"""The conditions of `docs/gcp`: what each role may do below the prefix, and the attacks it stops.

A condition is evaluated here as far as these use CEL: `startsWith`, `endsWith`, `&&`, `||`, `!`.
Source: IAM, "Overview of IAM Conditions"; Cloud Storage, "Use IAM Conditions on buckets".
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.docs.pages import ROOT
from tests.policies.attacks import OBEYED

if TYPE_CHECKING:
    from pathlib import Path

DOCS = ROOT / "docs/gcp"
NAMES = ("objects", "read", "report", "publish")
MEMBERS = {
    "client": ("objects",),
    "guest": ("read", "report"),
    "builder": ("read", "report", "publish"),
}
"""Which bindings each identity has."""
MAY = {
    "roles/storage.objectAdmin": {"create", "delete", "get"},
    "roles/storage.objectViewer": {"get"},
    "roles/storage.objectCreator": {"create"},
}
"""What these roles may do with objects (Cloud Storage, "IAM roles"); to replace is to delete."""
REPORT = "reports/launch/events/123/0000000000001-result.json"
ARCHIVE, INDEX = "base/00/env.tar.zst", "base/00/index.json"


def may(who: str, action: str, key: str, *, prefix: str = "team/one/") -> bool:
    """Tell whether an identity may do something with an object of the bucket."""
    name = f"projects/_/buckets/team-envs/objects/{prefix}{key}"
    for binding in MEMBERS[who]:
        role = re.search(r"--role=(\S+)", (DOCS / f"{binding}.yaml").read_text())
        assert role
        if action in MAY[role[1]] and evaluate(read(binding), name):
            return True
    return False


def read(binding: str) -> str:
    """Return an expression with the words in capitals filled in."""
    document = yaml.safe_load((DOCS / f"{binding}.yaml").read_text())
    assert document.keys() == {"title", "description", "expression"}
    text: str = document["expression"]
    return text.replace("BUCKET", "team-envs").replace("PREFIX", "team/one")


def evaluate(expression: str, name: str) -> bool:
    """Return what a condition says of the object of that name."""
    text = re.sub(
        r'resource\.name\.(starts|ends)With\("([^"\\]*)"\)',
        lambda m: str(name.startswith(m[2]) if m[1] == "starts" else name.endswith(m[2])),
        expression,
    )
    for operator, word in (("&&", " and "), ("||", " or "), ("!", " not ")):
        text = text.replace(operator, word)
    assert re.fullmatch(r"(True|False|and|or|not|[() ])+", text), text
    return bool(eval(text))


@pytest.mark.parametrize("who", ["guest", "builder"])
@pytest.mark.parametrize("key", OBEYED)
def test_a_machine_writes_nothing_that_others_obey(who: str, key: str) -> None:
    assert may("client", "create", key)
    assert not may(who, "create", key)
    assert not may(who, "delete", key)


@pytest.mark.parametrize("who", ["guest", "builder"])
def test_a_machine_reports_and_replaces_nothing(who: str) -> None:
    assert may(who, "create", REPORT)
    assert not may(who, "delete", REPORT)
    assert may(who, "get", ARCHIVE)
    # A copy over another archive replaces it.
    assert not may(who, "delete", ARCHIVE)
    assert may(who, "create", ARCHIVE) is may(who, "create", INDEX) is (who == "builder")


def test_nobody_reaches_what_is_beside_the_prefix() -> None:
    for who in MEMBERS:
        for action in ("get", "create", "delete"):
            for key in (REPORT, ARCHIVE, "names/team/00000001.json"):
                for prefix in ("", "team/", "team/one-more/", "other/team/one/"):
                    assert not may(who, action, key, prefix=prefix)


def test_the_module_of_terraform_has_the_same_conditions() -> None:
    text = (ROOT / "terraform/modules/gcp/iam.tf").read_text().replace('\\"', '"')
    place = '"projects/_/buckets/team-envs/objects/team/one/'
    for local, binding in (("reports", "report"), ("bases", "publish")):
        found = re.search(rf'^  {local} += "(.*)"$', text, re.MULTILINE)
        assert found
        expression = found[1].replace('"${local.objects}', place)
        assert "".join(expression.split()) == "".join(read(binding).split())


@pytest.mark.subprocess
def test_the_command_on_the_page_fills_all_files_in(tmp_path: Path) -> None:
    page = (ROOT / "docs/gcp.md").read_text("utf-8")
    found = re.search(r"^```sh\n(mkdir policies\n.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    # What gcloud is given, an argument a line.
    (tmp_path / "gcloud").write_text('#!/bin/sh\nprintf "%s\\n" "$@" >> given\n')
    (tmp_path / "gcloud").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["bash", "-euc", found[1]], cwd=tmp_path, check=True, env=environment)
    given = (tmp_path / "given").read_text().splitlines()
    used = {each.rpartition("=")[2] for each in given if each.startswith("--condition-from-file=")}
    assert used == {f"policies/{name}.yaml" for name in NAMES}
    for name in NAMES:
        text = (tmp_path / f"policies/{name}.yaml").read_text()
        assert "BUCKET" not in text
        assert "PREFIX" not in text
        role = re.search(r"--role=(\S+)", text)
        assert role
        # Beside each condition stands the role of its file.
        at = given.index(f"--condition-from-file=policies/{name}.yaml")
        assert f"--role={role[1]}" in given[max(0, at - 4) : at]
