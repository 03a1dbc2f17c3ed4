"""Published environments: once with everything here, then on machines where nothing is."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from click.shell_completion import ShellComplete

from envboot.cli import cli
from envboot.manifest import parse_manifest
from tests.keys import allow, make_signer
from tests.launch.workspace import ENVBOOT, PROGRAM, Workspace, open_workspace, write_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """A workspace that published `team@1` and `team@2`, and what it was told of them."""

    workspace: Workspace
    one: dict[str, Any]
    two: dict[str, Any]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_workspace(tmp_path_factory.mktemp("names") / "work") as made:
        one = publish(made)
        write_value(made.folder, 2)
        yield Desk(workspace=made, one=one, two=publish(made))


def publish(workspace: Workspace, *arguments: str) -> dict[str, Any]:
    """Publish the workspace's environment as the next version of `team`."""
    words = (ENVBOOT, "env", "publish", "team", "--host-python", "--json", *arguments)
    done = workspace.run(*words, "--python", str(workspace.python))
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def ask(workspace: Workspace, *arguments: str) -> str:
    done = workspace.run(ENVBOOT, "env", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def launch(workspace: Workspace, source: str) -> str:
    """Run the program in what `--from` names, and return its output."""
    done = workspace.run(
        *(ENVBOOT, "launch", "local", "--from", source, "--json", "--"), "python", "-c", PROGRAM
    )
    assert done.returncode == 0, done.stderr
    output: str = json.loads(done.stdout)["instances"][0]["output"]
    return output.strip()


def test_versions_stay_what_they_were_where_nothing_of_them_is_left(fresh: Workspace) -> None:
    assert fresh.run(ENVBOOT, "env", "ls").stderr.startswith("Nothing is published in `file://")
    first = publish(fresh)
    assert (first["version"], first["new"]) == (1, True)
    assert (first["packages"], [each["name"] for each in first["projects"]]) == (2, ["mine"])
    again = publish(fresh)
    assert (again["version"], again["new"]) == (1, False)
    write_value(fresh.folder, 2)
    second = publish(fresh)
    assert (second["version"], second["new"]) == (2, True)
    assert second["base"] == first["base"]
    # As on another machine: neither the environment, nor the project, nor a cache.
    for folder in ("venv", "cache", "projét"):
        shutil.rmtree(fresh.folder / folder)
    assert launch(fresh, "team@1") == "1 tiny-one"
    assert launch(fresh, "team@latest") == "2 tiny-one"
    assert launch(fresh, "team") == "2 tiny-one"
    (fresh.folder / "env.json").write_text(ask(fresh, "show", "team@1", "--manifest"))
    assert launch(fresh, "env.json") == "1 tiny-one"
    # One version under another name: the same bytes.
    promoted = fresh.run(
        *(ENVBOOT, "env", "publish", "stable", "--host-python", "--from", "team@1", "--json")
    )
    assert json.loads(promoted.stdout)["environment"] == first["environment"], promoted.stderr


def test_what_is_published_is_listed_shown_and_completed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = desk.workspace
    one, two = ({k: v for k, v in each.items() if k != "new"} for each in (desk.one, desk.two))
    assert json.loads(ask(workspace, "ls", "--json")) == [two]
    assert json.loads(ask(workspace, "ls", "team", "--json")) == [two, one]
    head, row = ask(workspace, "ls").splitlines()
    names = ["ENVIRONMENT", "PLATFORM", "PYTHON", "PACKAGES", "PROJECTS", "CREATED", "PUBLISHER"]
    assert head.split() == names
    cells = ["team@2", two["platform"], two["python"], "2", "mine", two["created"]]
    assert row.split() == [*cells, two["publisher"], "(not", "verified)"]
    shown = json.loads(ask(workspace, "show", "team@1", "--json"))
    contents = shown.pop("contents")
    assert shown == one
    assert [(each["name"], each["source"]) for each in contents] == [
        ("tiny-one", "pypi"),
        ("tiny-two", "pypi"),
    ]
    text = ask(workspace, "show", "team")
    assert f"name         team@2\ncreated      {two['created']}\n" in text
    assert f"\npublisher    {two['publisher']} (not verified)\n" in text
    assert "project      mine 1.0\n" in text
    assert text.splitlines()[-1].split() == ["tiny-two", "1.0", "pypi"]
    manifest = parse_manifest(ask(workspace, "show", "team@latest", "--manifest"))
    assert manifest.environment_digest == two["environment"]
    for name in ("ENVBOOT_STATE_DIR", "HOME"):
        monkeypatch.setenv(name, workspace.variables[name])
    monkeypatch.chdir(workspace.folder)
    complete = ShellComplete(cli, {}, "envboot", "_ENVBOOT_COMPLETE")
    for words, text, wanted in (
        (["env", "show"], "te", ["team"]),
        (["env", "show"], "team", ["team", "team@latest", "team@2", "team@1"]),
        (["env", "ls"], "x", []),
        (["launch", "local", "--from"], "team@l", ["team@latest", "team@l"]),
        (["env", "publish", "--store", "s3://"], "te", []),
    ):
        assert [item.value for item in complete.get_completions(words, text)] == wanted


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("store", "verify", "--sign"), 118),
        (("store", "verify", "Team"), 118),
        (("env", "show", "teams"), 113),
        (("env", "show", "team", "--json", "--manifest"), 118),
        (("env", "ls", "teams"), 113),
        (("env", "publish", "Team"), 118),
        (("launch", "local", "--from", "team@3"), 113),
        (("launch", "local", "--from", "team@two"), 118),
        (("launch", "local", "--from", "team@1", "--no-loose"), 118),
        (("launch", "local", "--from", "gone.lock"), 111),
        (("lock", "--from", "team@1"), 111),
        (("lock", "--from", "manifest.json"), 111),
        (("render-userdata", "--from", "team@1"), 118),
    ],
)
def test_every_refusal(
    desk: Desk, words: tuple[str, ...], code: int, golden: Callable[[str, str], None]
) -> None:
    workspace = desk.workspace
    (workspace.folder / "manifest.json").write_text('{"manifest_version": 1}')
    done = workspace.run(ENVBOOT, *words)
    assert (done.returncode, done.stdout) == (code, "")
    text = done.stderr.replace(str(workspace.folder).replace(" ", "%20"), "FOLDER")
    name = "-".join(words).replace("--", "").replace("@", "-at-")
    golden(f"env-refusal-{name}.txt", text.replace(str(workspace.folder), "FOLDER"))


def test_a_team_signs_what_it_has_verified_and_uses_nothing_else(
    desk: Desk, tmp_path: Path
) -> None:
    """The commands of docs/security.md."""
    workspace, ana = desk.workspace, make_signer(tmp_path, "ana@example.com")
    keys = {
        "ENVBOOT_TRUST": "signed",
        "ENVBOOT_ALLOWED_SIGNERS": str(allow(tmp_path / "allowed", [ana.line()])),
        "ENVBOOT_SIGNING_KEY": str(ana.key),
    }
    team = replace(workspace, variables={**workspace.variables, **keys})
    refused = team.run(ENVBOOT, "launch", "local", "--from", "team", "--", "true")
    assert refused.returncode == 113
    assert "`team@2`: not used: no signer of `" in refused.stderr
    version = publish(team)
    assert (version["version"], version["signer"]) == (3, "ana@example.com")
    assert "ana@example.com (signed)" in ask(team, "ls")
    verify = (ENVBOOT, "store", "verify", "team", "--sign")
    missing = team.run(*verify)
    assert missing.returncode == 113
    assert "hint: Add `--publish`" in missing.stderr
    done = team.run(*verify, "--publish", "--json")
    assert done.returncode == 0, done.stderr
    [verified] = json.loads(done.stdout)
    assert (verified["base"], verified["outcome"]) == (version["base"], "published")
    bucket = workspace.state / "store"
    assert (bucket / verified["signature"]).exists()
    done = team.run(ENVBOOT, "launch", "local", "--from", "team", "--json", "--", "true")
    assert json.loads(done.stdout)["instances"][0]["source"] == "archive", done.stderr
    # Another archive in its place is neither used nor taken for right.
    index = bucket / "base" / version["base"][7:] / "index.json"
    index.chmod(0o600)
    index.write_bytes(index.read_bytes() + b"\n")
    done = team.run(ENVBOOT, "launch", "local", "--from", "team", "--json", "--", "true")
    told = json.loads(done.stdout)
    assert told["instances"][0]["source"] == "install", done.stderr
    assert told["notes"][0]["message"].startswith("not used, because no signer of `")
