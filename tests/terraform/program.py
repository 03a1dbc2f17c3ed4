"""The real Terraform with the real AWS provider, wherever this machine has them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 300
PLACES = ("/opt", "/usr/local/share", "/usr/share/terraform", str(Path.home() / ".terraform.d"))
"""Where a mirror is likely: to look through a whole disk takes most of a minute."""


def give_up(reason: str) -> NoReturn:
    """Skip; where everything must run, fail."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def find_terraform() -> str | None:
    """Return the program's path."""
    return shutil.which("terraform")


@cache
def find_mirror() -> Path | None:
    """Return the folder of a file system mirror that has the AWS provider, wherever it is.

    Below it are `<registry>/hashicorp/aws/<version>/<platform>/terraform-provider-aws_…`.
    """
    for places in (PLACES, ("/",)):
        words = ["find", *places, "-xdev", "-name", ".terraform", "-prune", "-o"]
        words += ["-name", "terraform-provider-aws_v*", "-print"]
        found = subprocess.run(words, capture_output=True, text=True, check=False).stdout
        for line in sorted(found.splitlines(), reverse=True):
            path = Path(line)
            if path.parts[-5:-3] == ("hashicorp", "aws"):
                return path.parents[5]
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Terraform:
    """Terraform in one folder, with nothing of the user's own settings."""

    program: str
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """All that a process of Terraform has."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.variables}

    def run(self, *words: str, codes: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
        """Run a command; it must end with one of `codes`."""
        done = subprocess.run(
            [self.program, *words],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode in codes, f"{words}\n{done.stdout}\n{done.stderr}"
        return done

    @contextlib.contextmanager
    def attach(self) -> Iterator[Terraform]:
        """Run the AWS provider that `init` chose, for all commands of the Terraform it yields.

        On its own, each command starts the 700 MB program several times: `terraform test` then
        takes 17 s of CPU instead of 4. The process has the variables that Terraform would give it.
        """
        (program,) = self.folder.glob(".terraform/providers/*/hashicorp/aws/*/*/*-aws_v*")
        log = self.folder / "provider.log"
        with (
            log.open("wb") as errors,
            subprocess.Popen(
                [program, "-debug"],
                # On its own it logs each call in full.
                env={**self.environment, "TF_LOG_SDK": "ERROR", "TF_LOG_PROVIDER": "ERROR"},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as process,
        ):
            assert process.stdout
            try:
                name = "TF_REATTACH_PROVIDERS"
                lines = (line.strip().partition(f"{name}=") for line in process.stdout)
                address = next((value.strip("'") for _, found, value in lines if found), None)
                assert address, f"{program} did not start: {log.read_text(errors='replace')}"
                yield replace(self, variables={**self.variables, name: address})
            finally:
                # It removes its socket.
                process.send_signal(signal.SIGINT)


def make_terraform(folder: Path, variables: dict[str, str] | None = None) -> Terraform:
    """Return Terraform in that folder, or end the test with what is missing."""
    program = find_terraform()
    if not program:
        give_up("terraform is not on PATH")
    settings = {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "TF_INPUT": "0"}
    # Decoding the provider's schema makes much garbage: a third of the CPU was for collecting it.
    settings["GOGC"] = "400"
    return Terraform(program=program, folder=folder, variables={**settings, **(variables or {})})


def make_terraform_with_aws(folder: Path, variables: dict[str, str] | None = None) -> Terraform:
    """Return Terraform in that folder, which finds the AWS provider on this machine."""
    mirror = find_mirror()
    if not mirror:
        give_up("the provider hashicorp/aws is nowhere on this machine")
    file = folder / "terraform.rc"
    file.write_text(
        f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n'
    )
    return make_terraform(folder, {"TF_CLI_CONFIG_FILE": str(file), **(variables or {})})
