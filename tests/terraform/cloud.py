"""An AWS account on loopback: moto answers the API, SeaweedFS holds what is put into buckets."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.cache import make_cache
from tests.terraform.hcl import ROOT
from tests.terraform.program import Terraform, make_terraform_with_aws

if TYPE_CHECKING:
    from collections.abc import Iterator

REGION = "eu-central-1"
REPOSITORY = Path(__file__).parents[2]
ENVBOOT = [sys.executable, "-c", "from envboot.cli import main; main()"]
START_SECONDS = 60
# moto knows one account and no hosts of buckets; what is asked of a real account stays as it is.
OVERRIDE = """
provider "aws" {
  s3_use_path_style           = true
  skip_credentials_validation = true
}
"""


@contextlib.contextmanager
def run_api(folder: Path) -> Iterator[str]:
    """Run the API on loopback and give its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "moto.log"
    words = [sys.executable, "-m", "tests.terraform.api", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            words, cwd=REPOSITORY, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        end = time.monotonic() + START_SECONDS
        url = f"http://127.0.0.1:{port}"
        while True:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{url}/moto-api/", timeout=5),
            ):
                break
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"moto did not start:\n{log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.1)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def make_client(api: str, service: str) -> Any:
    """Return a client of the account."""
    make: Any = boto3.client
    return make(
        service,
        endpoint_url=api,
        region_name=REGION,
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Workplace:
    """A copy of one example as a user has it, and the environments beside it."""

    terraform: Terraform
    rendering: dict[str, str]

    @property
    def folder(self) -> Path:
        """The example's own folder."""
        return self.terraform.folder

    def envboot(self, *words: str, query: str | None = None) -> str:
        """Run `envboot` there and return what it prints."""
        return self.run(*ENVBOOT, *words, query=query)

    def run(self, *words: str, query: str | None = None) -> str:
        """Run a program there, as `envboot` runs, and return what it prints."""
        done = subprocess.run(
            words,
            input=query,
            env=self.rendering,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def open_workplace(example: str, folder: Path, api: str, store: dict[str, str]) -> Workplace:
    """Copy modules and examples, and let Terraform and envboot find the account.

    `store` are the variables with which boto3 finds the bucket.
    """
    shutil.copytree(ROOT, folder / "terraform", ignore=shutil.ignore_patterns(".terraform*"))
    place = folder / "terraform/examples" / example
    (place / "account_override.tf").write_text(OVERRIDE)
    terraform = make_terraform_with_aws(
        place,
        {
            "AWS_ENDPOINT_URL": api,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_EC2_METADATA_DISABLED": "true",
        },
    )
    rendering = {
        **store,
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ENVBOOT_CACHE_DIR": make_cache(folder / "cache"),
        "PYTHONPATH": str(REPOSITORY),
    }
    return Workplace(terraform=terraform, rendering=rendering)
