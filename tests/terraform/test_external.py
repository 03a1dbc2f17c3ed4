"""`envboot terraform-external` keeps to the protocol of Terraform's `external` data source."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hcl2
import pytest

from envboot.cli.commands.terraform_external import KEYS, parse_query
from envboot.errors import Exit, UsageError
from envboot.manifest import parse_manifest
from tests.cache import make_cache
from tests.servers import S3Server, s3_bucket, s3_server
from tests.terraform.environments import make_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["s3_bucket", "s3_server"]

ENVBOOT = [sys.executable, "-c", "from envboot.cli import main; main()"]
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """What Terraform does: writes a query, reads an answer."""

    folder: Path
    store: str
    variables: Mapping[str, str]

    def ask(self, query: Mapping[str, Any] | str) -> subprocess.CompletedProcess[str]:
        text = query if isinstance(query, str) else json.dumps({"store": self.store, **query})
        return subprocess.run(
            [*ENVBOOT, "terraform-external"],
            input=text,
            env=dict(self.variables),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def answer(self, query: Mapping[str, Any]) -> dict[str, str]:
        done = self.ask(query)
        assert (done.returncode, done.stderr) == (0, "")
        found: dict[str, str] = json.loads(done.stdout)
        return found


@pytest.fixture
def caller(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> Caller:
    (tmp_path / "manifest.json").write_bytes(make_manifest("3.12.1").to_bytes())
    variables = {
        **s3_server.environment(),
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "ENVBOOT_CACHE_DIR": make_cache(tmp_path / "cache"),
        "PYTHONPATH": str(REPOSITORY),
    }
    return Caller(folder=tmp_path, store=f"s3://{s3_bucket}/team", variables=variables)


@pytest.mark.subprocess
@pytest.mark.sockets
class TestProgram:
    """What is asked of the program, with a bucket."""

    def test_the_answer_is_one_object_of_texts_and_the_same_each_time(self, caller: Caller) -> None:
        query = {
            "manifest": "manifest.json",
            "command": '["python", "-m", "a b"]',
            "env": '{"LEVEL": "info"}',
        }
        first, second = caller.ask(query), caller.ask(query)
        assert first.stdout == second.stdout
        assert first.stderr == second.stderr == ""
        answer = json.loads(first.stdout)
        assert {type(value) for value in answer.values()} == {str}
        manifest = make_manifest("3.12.1")
        digest = manifest.environment_digest
        document = unpack(answer.pop("user_data_base64"))
        assert answer == {
            "environment_digest": digest,
            "base_digest": manifest.base_digest,
            "launch": f"env-{digest.removeprefix('sha256:')[:12]}",
        }
        assert '"command":["python","-m","a b"]' in document
        assert '"environment":{"LEVEL":"info"}' in document
        (line,) = (line for line in document.splitlines() if '"grants_version"' in line)
        grants = json.loads(line)
        assert grants["auth"]["kind"] == "aws"
        # Nothing ends, and nothing is secret.
        assert "expires" not in grants
        assert "?" not in line

    def test_words_and_a_list_are_the_same_command(self, caller: Caller) -> None:
        words = caller.answer({"manifest": "manifest.json", "command": "python -c 'print(1)'"})
        listed = json.dumps(["python", "-c", "print(1)"])
        assert caller.answer({"manifest": "manifest.json", "command": listed}) == words

    def test_a_digest_in_the_bucket_is_enough(self, caller: Caller) -> None:
        by_file = caller.answer({"manifest": "manifest.json"})
        # As Terraform has it: what is not wanted is empty.
        query = {"environment": by_file["environment_digest"], "manifest": "", "command": ""}
        assert caller.answer(query) == by_file
        (caller.folder / "manifest.json").unlink()
        assert caller.answer(query) == by_file

    def test_a_published_environment_is_enough(self, caller: Caller) -> None:
        by_file = caller.answer({"manifest": "manifest.json"})
        words = ["env", "publish", "team", "--from", "manifest.json", "--store", caller.store]
        done = subprocess.run(
            [*ENVBOOT, *words],
            env=dict(caller.variables),
            cwd=caller.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "team@1\n"), done.stderr
        (caller.folder / "manifest.json").unlink()
        for environment in ("team@latest", "team@1"):
            assert caller.answer({"environment": environment}) == by_file
        words = ["render-userdata", "--for", "terraform", "--store", caller.store]
        rendered = subprocess.run(
            [*ENVBOOT, *words, "--from", "team@latest"],
            env=dict(caller.variables),
            cwd=caller.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        assert rendered.stdout == by_file["user_data_base64"]
        refused = caller.ask({"environment": "team@2"})
        assert refused.stderr.startswith("error: Environment `team@2` was not found in `s3://")

    def test_it_is_what_render_userdata_writes(self, caller: Caller) -> None:
        answer = caller.answer({"manifest": "manifest.json", "command": "python -V"})
        words = ["render-userdata", "--for", "terraform", "--store", caller.store]
        words += ["--manifest", "manifest.json", "--", "python", "-V"]
        done = subprocess.run(
            [*ENVBOOT, *words],
            env=dict(caller.variables),
            cwd=caller.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == answer["user_data_base64"]

    def test_another_environment_is_another_document(self, caller: Caller) -> None:
        first = caller.answer({"manifest": "manifest.json"})
        (caller.folder / "manifest.json").write_bytes(make_manifest("3.12.2").to_bytes())
        second = caller.answer({"manifest": "manifest.json"})
        assert {name for name in first if first[name] != second[name]} == set(first)

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ({"environment": f"sha256:{'0' * 64}"}, "error: Environment `sha256:000"),
            (
                {"manifest": "absent.json"},
                "error: Cannot read manifest `absent.json`: No such file",
            ),
            ({"manifest": "manifest.json", "store": "s3://"}, "error: "),
            (
                {"manifest": "manifest.json", "store": "file:///tmp/x"},
                "error: Bucket `file:///tmp/x",
            ),
            ({}, "error: Expected one of `manifest` and `environment` in the query"),
        ],
    )
    def test_an_error_is_one_line_and_nothing_is_answered(
        self, caller: Caller, query: dict[str, str], message: str
    ) -> None:
        done = caller.ask(query)
        assert done.returncode in (Exit.STORE, Exit.USAGE, Exit.LOCK)
        assert done.stdout == ""
        assert done.stderr.startswith(message)
        assert done.stderr.count("\n") == 1

    def test_what_is_no_json_is_refused(self, caller: Caller) -> None:
        done = caller.ask("store=x")
        assert done.stderr == "error: Expected the query in JSON, found `store=x`\n"
        assert (done.returncode, done.stdout) == (Exit.USAGE, "")


def unpack(user_data: str) -> str:
    """Return the document as cloud-init reads it."""
    data = base64.b64decode(user_data)
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()


BASE = {"store": "s3://team/envboot", "manifest": "m.json"}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ([], "Expected a JSON object of texts on stdin"),
        ({**BASE, "command": ["python"]}, "Expected a JSON object of texts on stdin"),
        ({**BASE, "stores": "x"}, "Expected no `stores` in the query"),
        ({"manifest": "m.json"}, "Expected `store` in the query"),
        ({**BASE, "environment": "sha256:" + "0" * 64}, "Expected one of `manifest` and"),
        ({"store": "s3://x", "environment": "latest"}, "Expected `environment` as `NAME@latest`"),
        ({**BASE, "command": "a 'b"}, "Cannot split `command` into words"),
        ({**BASE, "command": "[1]"}, "Expected `command` as a JSON list of texts"),
        ({**BASE, "env": '["A=1"]'}, "Expected `env` as a JSON object of texts"),
        ({**BASE, "env": '{"A-B": "1"}'}, "Expected names of variables in `env`, found `A-B`"),
        ({**BASE, "parts": "a.yaml"}, "Expected `parts` in JSON"),
        ({**BASE, "imds": "yes"}, "Expected `imds` as `allow` or `deny`, found `yes`"),
    ],
)
def test_a_query_that_cannot_be_is_refused(query: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_query(json.dumps(query))
    assert caught.value.message.startswith(message)


def test_the_example_asks_for_what_is_known() -> None:
    text = (REPOSITORY / "terraform/examples/aws-external/rendering.tf").read_text("utf-8")
    (data,) = hcl2.loads(text)["data"]
    body = data['"external"']['"envboot"']
    assert body["program"] == ['"envboot"', '"terraform-external"']
    assert set(body["query"]) <= set(KEYS)


def test_a_manifest_of_these_tests_is_one() -> None:
    assert parse_manifest(make_manifest("3.12.1").to_bytes()) == make_manifest("3.12.1")
