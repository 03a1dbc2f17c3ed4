"""The module for Google Cloud is what its provider's published schema allows."""

from __future__ import annotations

import re

import pytest

from tests.terraform.google import Schema, find_faults, read_schema
from tests.terraform.hcl import ROOT, read_folder, without_comments

MODULE = ROOT / "modules/gcp"

pytestmark = [pytest.mark.network, pytest.mark.subprocess]


@pytest.fixture(scope="module")
def schema() -> Schema:
    return read_schema()


def test_the_schema_is_of_a_version_that_the_module_takes(schema: Schema) -> None:
    (block,) = read_folder(MODULE).of("terraform")
    low, high = re.findall(r"\d+\.\d+", block.body["required_providers"][0]["google"]["version"])
    version = tuple(map(int, schema.version.split(".")))
    assert tuple(map(int, low.split("."))) <= version < tuple(map(int, high.split(".")))


def test_every_resource_block_and_argument_is_in_the_schema(schema: Schema) -> None:
    faults = []
    resources = read_folder(MODULE).of("resource")
    for block in resources:
        known = schema.find_resource(block.labels[0])
        at = ".".join(block.labels)
        faults += (
            [f"{at} is unknown"] if known is None else find_faults(block.body, known, schema, at)
        )
    assert faults == []
    assert {block.labels[0] for block in resources} == {
        "google_compute_firewall",
        "google_compute_instance_template",
        "google_compute_region_instance_group_manager",
        "google_secret_manager_secret_iam_member",
        "google_service_account",
        "google_storage_bucket",
        "google_storage_bucket_iam_member",
    }


def test_every_attribute_that_is_read_is_one_that_the_resource_has(schema: Schema) -> None:
    text = without_comments(MODULE)
    read = set(re.findall(r"\b(google_\w+)\.\w+(?:\[[^\]]*\])?\.(\w+)", text))
    assert len(read) >= 5
    assert {(kind, name) for kind, name in read if name not in schema.find_exported(kind)} == set()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("uniform_bucket_level_access", "uniform_access", "uniform_access is unknown"),
        ("location ", "# location ", "location is missing"),
        ("soft_delete_policy {", "soft_delete_policy = {", "soft_delete_policy is a block"),
        ("      age  ", "      years", "lifecycle_rule.condition.years is unknown"),
    ],
)
def test_what_the_schema_does_not_have_is_found(
    schema: Schema, old: str, new: str, fault: str
) -> None:
    import hcl2

    text = (MODULE / "bucket.tf").read_text("utf-8")
    assert old in text
    bucket = hcl2.loads(text.replace(old, new))["resource"][0]
    known = schema.find_resource("google_storage_bucket")
    assert known
    body = bucket['"google_storage_bucket"']['"this"']
    assert any(found.endswith(fault) for found in find_faults(body, known, schema, "bucket"))
