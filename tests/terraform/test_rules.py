"""What tflint's rules ask for, and what we ask besides, of every module and example."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.terraform.hcl import (
    EXAMPLES,
    FOLDERS,
    MODULES,
    Folder,
    read_folder,
    show,
    without_comments,
)

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"README.md", "main.tf", "outputs.tf", "variables.tf", "versions.tf"}
SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
PLACES = {"variable": "variables.tf", "output": "outputs.tf", "terraform": "versions.tf"}


@pytest.fixture(params=FOLDERS, ids=lambda path: f"{path.parent.name}-{path.name}")
def folder(request: pytest.FixtureRequest) -> Folder:
    path: Path = request.param
    return read_folder(path)


def test_there_are_modules_and_examples_of_each() -> None:
    assert [path.name for path in MODULES] == ["aws", "gcp"]
    sources = {
        show(block.body["source"]) for path in EXAMPLES for block in read_folder(path).of("module")
    }
    assert sources == {'"../../modules/aws"', '"../../modules/gcp"'}


def test_the_standard_files_are_there(folder: Folder) -> None:
    assert {path.name for path in folder.path.iterdir()} >= FILES


def test_each_kind_of_block_has_its_file(folder: Folder) -> None:
    misplaced = [
        (block.kind, block.labels, block.file)
        for block in folder.blocks
        if PLACES.get(block.kind, block.file) != block.file
    ]
    assert misplaced == []


def test_names_are_snake_case(folder: Folder) -> None:
    names = [block.labels[-1] for block in folder.blocks if block.labels]
    names += [name for block in folder.of("locals") for name in block.body if name[:2] != "__"]
    assert [name for name in names if not SNAKE.fullmatch(name)] == []


def test_names_do_not_repeat_their_type(folder: Folder) -> None:
    blocks = folder.of("resource") + folder.of("data")
    repeated = [block.labels for block in blocks if block.labels[1] in block.labels[0].split("_")]
    assert repeated == []


def test_every_variable_is_typed_described_and_validated(folder: Folder) -> None:
    faults = {}
    for block in folder.of("variable"):
        missing = [name for name in ("type", "description") if not block.body.get(name)]
        if show(block.body.get("type")) != "bool" and not block.body.get("validation"):
            missing.append("validation")
        if not re.fullmatch(r'"[A-Z`].*\."', block.body.get("description", "")):
            missing.append("sentence")
        if missing:
            faults[block.labels[0]] = missing
    assert faults == {}


def test_every_validation_says_what_was_expected(folder: Folder) -> None:
    messages = [
        check["error_message"]
        for block in folder.of("variable")
        for check in block.body.get("validation", [])
    ]
    assert [text for text in messages if not re.fullmatch(r'"Expected .*\."', text)] == []


def test_a_variable_that_may_not_be_null_says_so(folder: Folder) -> None:
    # Otherwise a caller's null comes in place of the default.
    if folder.path not in MODULES:
        return
    faults = [
        block.labels[0]
        for block in folder.of("variable")
        if ("default" not in block.body or block.body["default"] not in (None, {}, 90))
        and block.body.get("nullable") is not False
    ]
    assert faults == []


def test_every_output_is_described(folder: Folder) -> None:
    outputs = folder.of("output")
    assert outputs
    assert [block.labels[0] for block in outputs if not block.body.get("description")] == []


def test_nothing_is_declared_that_nobody_uses(folder: Folder) -> None:
    text = without_comments(folder.path)
    wanted = [f"var.{block.labels[0]}" for block in folder.of("variable")]
    wanted += [f"data.{'.'.join(block.labels)}" for block in folder.of("data")]
    wanted += [
        f"local.{name}" for block in folder.of("locals") for name in block.body if name[:2] != "__"
    ]
    # A validation of its own is no use of a variable.
    text = re.sub(r'^variable ".*?^}', "", text, flags=re.MULTILINE | re.DOTALL)
    assert [name for name in wanted if not re.search(rf"\b{re.escape(name)}\b", text)] == []


def test_terraform_and_every_provider_are_pinned_and_used(folder: Folder) -> None:
    (block,) = folder.of("terraform")
    assert re.fullmatch(r'">= [0-9.]+"', block.body["required_version"])
    (providers,) = block.body["required_providers"]
    pinned = {name: each for name, each in providers.items() if name[:2] != "__"}
    for each in pinned.values():
        assert each["source"].startswith('"hashicorp/')
        assert re.fullmatch(r'">= [0-9.]+, < [0-9.]+"|"~> [0-9.]+"', each["version"])
    # `terraform_data` is Terraform's own.
    kinds = {each.labels[0] for each in folder.of("resource") + folder.of("data")}
    kinds |= {each.labels[0] for each in folder.of("provider")}
    used = {kind.partition("_")[0] for kind in kinds} - {"terraform"}
    assert used == set(pinned)


def test_modules_configure_no_provider(folder: Folder) -> None:
    assert bool(folder.of("provider")) == (folder.path in EXAMPLES)


def test_no_expression_is_quoted_for_nothing(folder: Folder) -> None:
    assert re.findall(r'= "\$\{[^{}"]*\}"$', without_comments(folder.path), re.MULTILINE) == []


def test_every_skipped_check_of_the_scan_has_its_reason(folder: Folder) -> None:
    text = "\n".join(path.read_text("utf-8") for path in folder.path.glob("*.tf"))
    for line in re.findall(r"^.*checkov:skip.*$", text, re.MULTILINE):
        assert re.fullmatch(r"  #checkov:skip=CKV2?_[A-Z]+_\d+:[A-Z`].{20,}", line)
