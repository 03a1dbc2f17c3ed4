"""The launch template that Terraform makes starts a machine that becomes ready by its role."""

from __future__ import annotations

import base64
import json
from contextlib import ExitStack
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from envboot.manifest import parse_manifest
from tests.agent.proxy import running
from tests.agent.role.gate import Gate
from tests.boot.environment import make_environment
from tests.boot.machine import Spec, boot
from tests.boot.metadata import identify
from tests.channel import ensure_channel
from tests.index import serve_folder
from tests.servers import run_s3_server
from tests.terraform.cloud import make_client, open_workplace, run_api

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers import S3Server

pytestmark = [
    pytest.mark.boot,
    pytest.mark.subprocess,
    pytest.mark.sockets,
    # py-rattler, in the stand-in for micromamba, has been seen to crash in a booted machine.
    pytest.mark.flaky(reruns=1, only_rerun=[r"micromamba failed \(-11\)"]),
]

BUCKET = "team-envs"
CODE = "import os, six, sys; print('ran in', sys.prefix, 'as root:', os.getuid() == 0)"


def test_the_template_boots_a_machine_that_is_ready_by_its_role(root: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        channel = stack.enter_context(serve_folder(ensure_channel().folder))
        (tmp_path / "weed").mkdir()
        s3 = stack.enter_context(run_s3_server(tmp_path / "weed"))
        s3.client().create_bucket(Bucket=BUCKET)
        gate = stack.enter_context(running(Gate(s3.endpoint, s3.admin)))
        api = stack.enter_context(run_api(tmp_path))
        keys = gate.issue(3600)
        store = {
            **s3.environment(),
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["Token"],
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{gate.server_port}",
            "MAMBA_ROOT_PREFIX": str(tmp_path / "mamba"),
        }
        place = open_workplace("aws-existing-bucket", tmp_path / "user", api, store)
        prefix = make_environment(place.folder, channel, lambda words: place.run(*words))

        place.envboot("lock", "--python", str(prefix), "-o", "manifest.json")
        words = ["--for", "terraform", "--store", f"s3://{BUCKET}/envboot"]
        words += ["--manifest", "manifest.json", "-o", "user-data.b64"]
        place.envboot("render-userdata", *words, "--", "python", "-c", CODE)
        manifest = parse_manifest((place.folder / "manifest.json").read_bytes())
        place.terraform.run("init", "-no-color")
        given = {
            "bucket_name": BUCKET,
            "user_data_file": "user-data.b64",
            "environment_digest": manifest.environment_digest,
        }
        options = [word for name, value in given.items() for word in ("-var", f"{name}={value}")]
        place.terraform.run("apply", "-auto-approve", "-no-color", *options)

        # From now on the bucket does for roles what the module's policy says, and nothing else.
        policy = make_client(api, "iam").get_role_policy(RoleName="notebook", PolicyName="envboot")
        gate.may = make_judge(policy["PolicyDocument"]["Statement"], "i-terraform")
        (version,) = make_client(api, "ec2").describe_launch_template_versions(
            LaunchTemplateName="notebook", Versions=["$Default"]
        )["LaunchTemplateVersions"]
        data = version["LaunchTemplateData"]
        spec = Spec(
            # As EC2 does: what is in the template is decoded once.
            user_data=base64.b64decode(data["UserData"]),
            datasource="ec2",
            ports=(urlsplit(channel).port or 80, gate.server_port),
            role=(data["IamInstanceProfile"]["Arn"].rpartition("/")[2], gate.issue(3600)),
        )
        with boot("terraform", spec, root=root, folder=tmp_path / "machine") as machine:
            report = machine.wait(120)
        result = json.loads(report.text("/var/lib/envboot/result.json"))
        assert (result["outcome"], result["source"], result["errors"]) == ("ready", "install", [])
        assert result["environment"] == manifest.environment_digest
        # The example's machine may report, and not publish.
        assert list_keys(s3, "envboot/base/") == [f"{manifest.base_digest[7:]}/manifest.json"]
        launch = f"env-{manifest.environment_digest[7:19]}"
        reports = f"envboot/reports/{launch}/"
        texts = [
            s3.client()
            .get_object(Bucket=BUCKET, Key=reports + key)["Body"]
            .read()
            .decode(errors="replace")
            for key in list_keys(s3, reports)
        ]
        assert any("ran in /opt/envboot/env as root: False" in text for text in texts)


def list_keys(s3: S3Server, prefix: str) -> list[str]:
    """Return the keys below a prefix, without it."""
    listed = s3.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    return [each["Key"].removeprefix(prefix) for each in listed.get("Contents", ())]


def make_judge(statements: list[dict[str, Any]], instance: str) -> Callable[[str, str], bool]:
    """Return what the policy says of a method and a path on the bucket's service."""
    own = identify(instance)
    actions = {"GET": "s3:GetObject", "PUT": "s3:PutObject"}

    def may(method: str, path: str) -> bool:
        resource = f"arn:aws:s3:::{path.lstrip('/')}"
        return any(
            actions.get(method) == each["Action"]
            and any(fnmatchcase(resource, wanted) for wanted in _fill(each["Resource"], own))
            for each in statements
        )

    return may


def _fill(value: str | list[str], own: str) -> list[str]:
    listed = [value] if isinstance(value, str) else value
    return [each.replace("${ec2:SourceInstanceARN}", own) for each in listed]
