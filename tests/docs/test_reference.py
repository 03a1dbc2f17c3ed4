"""The reference says what the code says, and what real runs show: nothing less, nothing else."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envboot import errors
from envboot.agent import wire
from envboot.config import (
    CHANNELS,
    GLIBC,
    LOOSE_LIMIT,
    GcsSettings,
    S3Settings,
    Settings,
    parse_settings,
)
from envboot.errors import EnvbootError, Exit, UsageError
from envboot.manifest import Base, Manifest, Python, Tool
from envboot.publish.archive_comparison import Difference
from envboot.publish.layout import Keys
from envboot.publish.own import key_proof
from envboot.publish.trust import key_signature
from envboot.scan.schema import Scan, Source
from envboot.toml import read_data
from envboot.userdata import LaunchPath, Rung
from envboot.userdata.parts import PREFIXES, TYPES
from tests.docs import commands, sources
from tests.docs.conftest import NAMES
from tests.docs.pages import (
    REFERENCE,
    ROOT,
    compare,
    find_blocks,
    flatten,
    read_rows,
    read_section,
)

if TYPE_CHECKING:
    from tests.docs.conftest import Machines, Project
    from tests.gcs import GcsFront
    from tests.servers import S3Server


def rows(title: str) -> dict[str, str]:
    """Return the rows of one section of the reference."""
    found = read_rows(read_section(REFERENCE, title))
    assert found, f"section {title!r} has no table"
    return found


def assert_same(title: str, *documents: Any, known: frozenset[str] = frozenset()) -> None:
    """A section has exactly the members of these documents, and those that a type knows."""
    seen = set().union(*map(flatten, documents)) | known
    assert compare(rows(title), seen) == ([], [])


def test_every_command_and_option_is_in_the_reference(request: pytest.FixtureRequest) -> None:
    text = REFERENCE.read_text("utf-8")
    before, begin, rest = text.partition(commands.BEGIN)
    _, end, after = rest.partition(commands.END)
    assert begin
    assert end
    wanted = before + commands.render() + after
    if request.config.getoption("--update-golden"):
        REFERENCE.write_text(wanted, "utf-8")
        text = wanted
    assert text == wanted, "run pytest --update-golden tests/docs"


def test_every_option_says_what_it_does() -> None:
    assert " |  |" not in commands.render()


def test_the_exit_codes_are_those_of_the_code_and_mean_what_its_errors_mean() -> None:
    table = rows("Exit codes")
    assert set(table) == {str(int(code)) for code in Exit}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    # They share their code with `UsageError`, which says what it means.
    others = (EnvbootError, errors.DocumentError, errors.MissingExtraError, errors.UnseenError)
    for kind in kinds:
        if issubclass(kind, EnvbootError) and kind not in others:
            meaning = str(kind.__doc__).splitlines()[0].rstrip(".")
            assert f"| {meaning} |" in table[str(int(kind.exit_code))]


def test_the_variables_are_those_of_the_code() -> None:
    read = set(rows("Variables that are read"))
    written = set(rows("Variables that are set"))
    assert read | written == sources.find_variables()


UNUSUAL = frozenset(
    {"[].beside[].path", "[].beside[].place", "[].failed[].path", "[].failed[].error"}
)
"""Members of results that are only there where something is not as it should be."""
DETAILS = {"type": "m6i.large"}
GROUPS = {"gcs", "provisioners", "s3", "tools"}


def test_the_settings_are_those_of_the_code() -> None:
    fields = Settings.__dataclass_fields__
    wanted = {name.replace("_", "-") for name in fields if name not in GROUPS}
    wanted |= {f"s3.{name.replace('_', '-')}" for name in S3Settings.__dataclass_fields__}
    wanted |= {f"gcs.{name.replace('_', '-')}" for name in GcsSettings.__dataclass_fields__}
    wanted |= {f"tools.<tool>.{name}" for name in Tool.__dataclass_fields__}
    wanted.add("<provisioner>.<option>")
    table = rows("Settings")
    assert set(table) == wanted
    assert f"`{json.dumps(CHANNELS)}`" in table["channels"]
    assert f'`"{GLIBC}"`' in table["glibc"]
    assert f"`{LOOSE_LIMIT}`" in table["loose-limit"]


def test_the_example_of_settings_is_accepted_and_uses_every_one() -> None:
    (text,) = find_blocks(read_section(REFERENCE, "Settings"), "toml")
    settings = parse_settings(text)
    assert settings.tools
    assert settings.provisioners
    groups = (Settings, S3Settings, GcsSettings)
    for name in (name for group in groups for name in group.__dataclass_fields__):
        assert name.replace("_", "-") in text or name == "provisioners"
    with pytest.raises(UsageError):
        parse_settings(f"{text}\nunknown = 1\n")


def test_every_pattern_of_credential_files_is_there() -> None:
    text = read_section(REFERENCE, "Credentials and links")
    named = set(re.findall(r"`([^`]+)`", text))
    table = read_data("credential-files.toml")
    assert {pattern for patterns in table.values() for pattern in patterns} - named == set()


def test_the_launch_paths_and_their_limits_are_those_of_the_code() -> None:
    table = rows("Launch paths")
    assert set(table) == {path.value for path in LaunchPath}
    for path in LaunchPath:
        limit = path.rules.limit
        assert f"| {f'{limit:,}' if limit else 'none'} |" in table[path.value]
        assert ("After base64" in table[path.value]) == path.rules.limit_encoded
        assert ("Takes no parts" in table[path.value]) == (not path.rules.mime)


def test_the_types_of_parts_are_those_of_the_code() -> None:
    table = rows("Types of parts")
    assert set(table) == {name.partition("/")[2] for name in TYPES}
    for prefix, name in PREFIXES.items():
        assert f"| `{prefix}` |" in table[name.partition("/")[2]]


def test_the_agents_commands_and_exit_codes_are_those_of_the_code() -> None:
    text = read_section(REFERENCE, "envboot-agent").partition("### Stages")[0]
    first, _, second = text.partition("| exit code |")
    functions = [
        node
        for name in ("main", "explain")
        for node in sources.parse(ROOT / f"bootstrap/envboot/agent/{name}.py").body
        if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    compared = [
        node
        for function in functions
        for test in ast.walk(function)
        if isinstance(test, ast.If)
        for node in ast.walk(test.test)
    ]
    words: set[object] = set()
    for node in compared:
        if isinstance(node, ast.Tuple):
            words |= {item.value for item in node.elts if isinstance(item, ast.Constant)}
        elif isinstance(node, ast.Compare):
            words |= {item.value for item in node.comparators if isinstance(item, ast.Constant)}
    assert set(read_rows(first)) == words
    codes = {wire.READY, wire.FAILED, wire.DEGRADED, 64, 77}
    assert set(read_rows(second)) == {str(code) for code in codes}


def test_the_message_ids_are_those_of_the_code_and_the_catalog() -> None:
    _, _, text = read_section(REFERENCE, "Journal").partition("| message id |")
    table = read_rows(text)
    kinds = {row.split(" | ")[1]: code for code, row in table.items()}
    assert kinds == wire.MESSAGE_IDS
    catalog = (ROOT / "templates/envboot.catalog").read_text("ascii")
    ids = {line[3:] for line in catalog.splitlines() if line.startswith("-- ")}
    assert ids == set(table)


def test_the_reports_are_those_of_the_code() -> None:
    found = set()
    for path in (ROOT / "bootstrap/envboot/agent").glob("*.py"):
        for node in ast.walk(sources.parse(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "report":
                assert isinstance(node.args[0], ast.Constant)
                found.add(node.args[0].value)
    assert set(rows("Reports")) == found


@pytest.mark.subprocess
@pytest.mark.sockets
class TestMachines:
    """What is compared with real machines."""

    def test_the_journal_fields_are_those_that_machines_write(self, machines: Machines) -> None:
        text, _, _ = read_section(REFERENCE, "Journal").partition("| message id |")
        assert set(read_rows(text)) == set().union(*machines.records)
        stages = {record["ENVBOOT_STAGE"] for record in machines.records}
        assert stages - set(rows("Stages")) == {"run", "sync", "watch"}

    def test_the_bucket_has_the_keys_that_are_there(self, machines: Machines) -> None:
        # These machines are nobody's launch, which could be over.
        seen = machines.keys() | {"reports/launch/ended.json"}
        # Nobody pipes anything into them.
        seen |= {"launches/launch/seats-input-0.json"}
        # Nor does anybody limit whose archives they take.
        python = Python(version="3.11.7", source="host")
        base = Base(platform="linux-64", python=python, virtual_packages={}, tools={})
        keys = Keys(Manifest(base=base))
        seen |= {key_signature(keys, b"", 1), key_proof(keys, "launch", 0)}
        assert compare(rows("Bucket"), seen) == ([], [])

    def test_the_files_on_the_guest_are_those_that_are_there(self, machines: Machines) -> None:
        # They are there while the command runs, while a base is published, and with loose code;
        # and the last one where `/run` is the machine's own.
        passing = {"/run/envboot/run.pid", "/opt/envboot/publish-<base>/", "/home/envboot/work/"}
        passing |= {"/run/envboot/secrets.json", "/var/lib/envboot/stdin"}
        passing |= {f"/var/lib/envboot/output/<n>.{kind}" for kind in ("open", "bin")}
        # Of machines that end by themselves.
        passing |= {f"/var/lib/envboot/{name}.json" for name in ("born", "moved")}
        passing |= {"/etc/systemd/system/envboot-life.service"}
        seen = passing.union(*map(machines.files, NAMES))
        assert compare(rows("Files on the guest"), seen) == ([], [])

    def test_the_agent_prints_these_members(self, machines: Machines) -> None:
        why = json.loads(machines.tell("second", "why", "--json").stdout)
        assert_same("`envboot-agent why --json`", why, {"result": machines.results[0]})
        status = json.loads(machines.tell("second", "status", "--json").stdout)
        assert flatten(status) == {name for name in flatten(why) if not name.startswith("events")}

    def test_a_wrong_word_ends_the_agent_with_64(self, machines: Machines) -> None:
        assert machines.tell("first", "unknown").returncode == 64

    def test_the_agents_exit_code_is_the_outcome(self, machines: Machines) -> None:
        assert machines.tell("first", "status").returncode == wire.READY
        assert machines.tell("second", "status").returncode == wire.DEGRADED


@pytest.mark.subprocess
@pytest.mark.sockets
class TestJson:
    """What is compared with what the commands print."""

    def test_scan(self, project: Project) -> None:
        found = project.json("scan", "--python", "venv", "--json")
        known = frozenset(sources.members(Scan))
        assert_same("`envboot scan --json`", found, known=known)

    def test_scan_sources(self, project: Project) -> None:
        found = project.json("scan", "--python", "venv", "--sources", "--json")
        known = frozenset(f"[].{name}" for name in sources.members(Source))
        assert_same("`envboot scan --sources --json`", found, known=known)

    def test_lock(self, project: Project) -> None:
        found = project.json("lock", "--python", "venv", "--host-python")
        known = frozenset(sources.members(Manifest))
        assert_same("`envboot lock`: the manifest", found, known=known)

    def test_launch(self, launches: list[dict[str, Any]]) -> None:
        title = "`envboot launch local --json`"
        assert_same(title, *launches, known=frozenset(f"results{each}" for each in UNUSUAL))
        table = rows(title)
        for step in launches[0]["steps"]:
            assert f"`{step}`" in table["steps.<step>"]

    def test_fetch(self, launches: list[dict[str, Any]], project: Project) -> None:
        name = launches[0]["launch"]
        found = project.json("fetch", name, "--json")
        assert_same("`envboot fetch --json`", found, known=UNUSUAL)
        listed = project.json("ls", name, "--json")
        assert [each["path"] for each in listed] == ["made.txt"]
        assert_same("`envboot ls LAUNCH --json`", listed)

    def test_stages(self, launches: list[dict[str, Any]]) -> None:
        stages = [set(launch["instances"][0]["stages"]) for launch in launches]
        assert set(rows("Stages")) == set().union(*stages)

    def test_files_on_this_machine(self, launches: list[dict[str, Any]], project: Project) -> None:
        assert launches
        state = project.folder / "state"
        seen = {
            path.relative_to(state).as_posix()
            for path in state.rglob("*")
            if path.is_file() or path.is_symlink()
        }
        documented = rows("Files on your machine")
        # This project names a bucket of its own.
        seen |= {"store/any", "trust.key", "trust/base/index"}
        assert compare(documented, seen) == ([], [])

    def test_status(self, launches: list[dict[str, Any]], project: Project) -> None:
        found = [project.json("status", each["launch"], "--json") for each in launches]
        # Only clouds have them.
        cloud: dict[str, Any] = {"end": {"why": "done", "time": "2026-01-01T00:00:00Z"}}
        cloud["instances"] = [{"notice": {"notice": "spot-interruption"}, "details": DETAILS}]
        cloud["instances"][0]["ended"] = {"why": "max-life"}
        assert_same("`envboot status --json`", *found, cloud)

    def test_ls(self, launches: list[dict[str, Any]], project: Project) -> None:
        assert len(project.json("ls", "--json")) == len(launches)
        assert_same("`envboot ls --json`", project.json("ls", "--json"), [{"details": DETAILS}])
        known = project.json("ls", "--store", f"file://{project.folder}/bucket", "--json")
        over: dict[str, Any] = {"end": {"why": "done", "time": "2026-01-01T00:00:00Z"}}
        assert {each["launch"] for each in launches} <= {each["launch"] for each in known}
        assert_same("`envboot ls --store URL --json`", known, [over])

    def test_logs(self, launches: list[dict[str, Any]], project: Project) -> None:
        done = project.run("logs", launches[0]["launch"], "--json")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines
        assert_same("`envboot logs --json`", *lines, known=frozenset({"base64"}))

    def test_plan(self, project: Project) -> None:
        words = ("plan", "--python", "venv", "--host-python", "--ignore", "mine", "--json")
        assert_same("`envboot plan --json`", project.json(*words))

    def test_env(self, project: Project) -> None:
        words = ("env", "publish", "team", "--python", "venv", "--host-python", "--json")
        published = project.json(*words)
        signer = frozenset({"signer"})
        assert_same("`envboot env publish --json`", published, known=signer)
        listed = project.json("env", "ls", "--json")
        assert_same("`envboot env ls --json`", listed, known=frozenset({"[].signer"}))
        shown = project.json("env", "show", "team@1", "--json")
        assert_same("`envboot env show --json`", {"contents": shown.pop("contents")})
        assert {**shown, "new": True} == published

    def test_store_ls(self, launches: list[dict[str, Any]], project: Project) -> None:
        assert launches
        found = project.json("store", "ls", f"file://{project.folder}/bucket", "--json")
        assert_same("`envboot store ls --json`", found)

    def test_store_verify(self, project: Project) -> None:
        bucket = ("--store", f"file://{project.folder}/verified", "--json")
        project.json("env", "publish", "right", "--python", "venv", "--host-python", *bucket)
        found = project.json("store", "verify", "right", "--publish", *bucket)
        known = {f"[].differences[].{field.name}" for field in dataclasses.fields(Difference)}
        assert_same("`envboot store verify --json`", found, known=frozenset(known))
        assert [each["outcome"] for each in found] == ["published"]

    def test_store_init(self, s3_server: S3Server, s3_bucket: str, project: Project) -> None:
        variables = project.variables | s3_server.environment()
        there = dataclasses.replace(project, variables=variables)
        found = there.json("store", "init", f"s3://{s3_bucket}/team", "--json")
        assert_same("`envboot store init --json`", found)
        outcomes = rows("`envboot store init --json`")["[].outcome"]
        assert all(f"`{step['outcome']}`" in outcomes for step in found)
        lines = read_section(REFERENCE, "Setting a bucket up").splitlines()
        named = [line.split(" | ")[0] for line in lines if line.startswith("| ")]
        assert named[1:] == [f"| {step['name']}" for step in found]

    def test_store_init_of_cloud_storage(
        self, gcs_server: GcsFront, gcs_bucket: str, project: Project
    ) -> None:
        names = ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST")
        variables = project.variables | {name: os.environ[name] for name in names}
        there = dataclasses.replace(project, variables=variables)
        found = there.json("store", "init", f"gs://{gcs_bucket}/team", "--json")
        assert gcs_server.settings[gcs_bucket]
        table = read_section(REFERENCE, "Setting a bucket of Cloud Storage up")
        named = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")]
        assert named[1:] == [f"| {step['name']}" for step in found]

    def test_doctor(self, project: Project) -> None:
        found = project.json("doctor", "--store", f"file://{project.folder}/bucket", "--json")
        assert_same("`envboot doctor --json`", found)

    def test_render_userdata(self, tmp_path: Path) -> None:
        # In a folder without settings, so without a bucket.
        manifest = ROOT / "tests/golden/manifest-minimal.json"
        command = [str(Path(sys.executable).with_name("envboot")), "render-userdata", "--json"]
        done = subprocess.run(
            [*command, "--manifest", str(manifest)], cwd=tmp_path, capture_output=True, check=True
        )
        title = "`envboot render-userdata --json`"
        assert_same(title, json.loads(done.stdout))
        for rung in Rung:
            assert f"`{rung.name.lower()}`" in rows(title)["rung"]
