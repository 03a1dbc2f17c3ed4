"""The google provider's published schema, as CDK Terrain's bindings of it carry it.

The provider itself cannot be had everywhere; the bindings are made from its schema, and their
`.jsii` file has every resource, block and argument of it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

PACKAGE, VERSION = "cdktn-provider-google", "21.1.0"
CACHE = Path(__file__).parents[2] / ".cache/google"
# Terraform's own, on every resource.
META = frozenset({"count", "for_each", "depends_on", "lifecycle", "provider", "provisioner"})
_LINK = re.compile(r"/google/([0-9.]+)/docs/resources/\w+#(\w+) ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Argument:
    """One argument or block that a resource or block takes; `block` is the block's own type."""

    name: str
    required: bool
    block: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Schema:
    """Every type of the bindings."""

    version: str
    types: dict[str, Any]

    def find_resource(self, kind: str) -> dict[str, Argument] | None:
        """Return what a resource takes, None where there is no such resource."""
        camel = "".join(word.title() for word in kind.removeprefix("google_").split("_"))
        wanted = f".{camel}Config".lower()
        for name, found in self.types.items():
            if name.lower().endswith(wanted) and ".dataGoogle" not in name:
                return self.find_arguments(name) if found["kind"] == "interface" else None
        return None

    def find_arguments(self, name: str) -> dict[str, Argument]:
        """Return what one type takes, by the names that HCL has."""
        arguments = {}
        for each in self.types[name].get("properties", ()):
            docs = each.get("docs", {})
            # What has no description of its own has the link in its place.
            found = _LINK.search(f"{docs.get('summary', '')} {docs.get('remarks', '')}")
            if found:
                block = next((t for t in _types(each["type"]) if t in self.types), None)
                arguments[found[2]] = Argument(
                    name=found[2], required=not each.get("optional"), block=block
                )
        return arguments

    def find_exported(self, kind: str) -> set[str]:
        """Return every attribute that others may read of a resource."""
        camel = "".join(word.title() for word in kind.removeprefix("google_").split("_"))
        name = next(
            name
            for name in self.types
            if name.lower().endswith(f".{camel}".lower()) and ".dataGoogle" not in name
        )
        names = {each["name"] for each in self.types[name].get("properties", ())}
        return {re.sub(r"(?<!^)([A-Z])", lambda m: f"_{m[1].lower()}", each) for each in names}


def _types(kind: dict[str, Any]) -> list[str]:
    """Return the named types in a type: in unions and collections too."""
    if "fqn" in kind:
        return [kind["fqn"]]
    if "collection" in kind:
        return _types(kind["collection"]["elementtype"])
    return [name for each in kind.get("union", {}).get("types", ()) for name in _types(each)]


def read_schema() -> Schema:
    """Fetch the bindings, once, and read the schema out of them; importing them takes long."""
    wheel = next(CACHE.glob(f"*{VERSION}*.whl"), None)
    if wheel is None:
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*words, "--dest", str(CACHE), f"{PACKAGE}=={VERSION}"], check=True)
        wheel = next(CACHE.glob(f"*{VERSION}*.whl"))
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        inner = outer.read(name)
    with tarfile.open(fileobj=BytesIO(inner)) as archive:
        member = archive.extractfile("package/.jsii")
        assert member
        types = json.load(member)["types"]
    link = _LINK.search(
        json.dumps(types["@cdktn/provider-google.storageBucket.StorageBucketConfig"])
    )
    assert link
    return Schema(version=link[1], types=types)


def find_faults(
    body: dict[str, Any], known: dict[str, Argument], schema: Schema, at: str
) -> list[str]:
    """Return what is wrong with a block as parsed: unknown, missing, or a block for an argument."""
    faults = []
    given: dict[str, list[Any] | None] = {}
    for name, value in body.items():
        if name.startswith("__") or name in META:
            continue
        if name == "dynamic":
            for each in value:
                ((label, inner),) = each.items()
                given.setdefault(label.strip('"'), [])
                blocks = given[label.strip('"')]
                assert blocks is not None
                blocks += inner["content"]
        elif isinstance(value, list) and value and _is_block(value[0]):
            blocks = given.setdefault(name, [])
            assert blocks is not None
            blocks += value
        else:
            given[name] = None
    for name, blocks in given.items():
        argument = known.get(name)
        if argument is None:
            faults.append(f"{at}.{name} is unknown")
        elif (argument.block is None) != (blocks is None):
            faults.append(f"{at}.{name} is {'no' if argument.block is None else 'a'} block")
        elif argument.block:
            inner_known = schema.find_arguments(argument.block)
            for block in blocks or ():
                faults += find_faults(block, inner_known, schema, f"{at}.{name}")
    required = {name for name, argument in known.items() if argument.required}
    return faults + [f"{at}.{name} is missing" for name in sorted(required - given.keys())]


def _is_block(value: Any) -> bool:
    return isinstance(value, dict) and "__is_block__" in value
