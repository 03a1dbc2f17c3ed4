"""The manifest: canonical bytes and digests for ever, strict reading, and its published schema."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envboot.errors import DocumentError
from envboot.manifest import (
    Base,
    CondaPackage,
    Layer,
    Manifest,
    Project,
    Python,
    Tool,
    Wheel,
    parse_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = json.loads(Path(__file__).parents[1].joinpath("docs/manifest.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

FULL = Manifest(
    base=Base(
        platform="linux-64",
        python=Python(version="3.11.7", source="host", executable="/usr/bin/python3"),
        virtual_packages={"__glibc": "2.28", "__cuda": "12.4"},
        conda=(
            CondaPackage(url="https://channel.test/linux-64/a-1-0.conda", sha256="a" * 64),
            CondaPackage(url="https://channel.test/noarch/b-2-0.tar.bz2", md5="b" * 32),
        ),
        wheels=(
            Wheel(name="flask", version="3.0", sha256="c" * 64),
            Wheel(name="own", version="1", sha256="d" * 64, index="https://index.test/simple"),
            Wheel(name="file", version="2", sha256="e" * 64, url="https://files.test/ü.whl"),
        ),
        tools={
            "uv": Tool(version="0.9", url="https://files.test/uv.whl", sha256="f" * 64),
            "micromamba": Tool(version="2.8", url="https://files.test/m", sha256="0" * 64),
        },
    ),
    layer=Layer(
        digest=f"sha256:{'1' * 64}",
        projects=(
            Project(name="flow", version="0.1", commit="4f1c2d"),
            Project(name="ops", version="2"),
        ),
    ),
)
MINIMAL = Manifest(
    base=Base(
        platform="linux-aarch64",
        prefix="/srv/env",
        python=Python(version="3.13.0rc1", source="conda"),
        virtual_packages={},
        tools={},
    )
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
hexes = {n: st.text("0123456789abcdef", min_size=n, max_size=n) for n in (32, 64)}
names = st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,2}", fullmatch=True)
tools = st.builds(Tool, version=texts, url=texts, sha256=hexes[64])
packages = st.one_of(
    st.builds(CondaPackage, url=texts, sha256=hexes[64]),
    st.builds(CondaPackage, url=texts, md5=hexes[32]),
    st.builds(CondaPackage, url=texts, sha256=hexes[64], md5=hexes[32]),
)
wheels = st.builds(
    Wheel,
    name=names,
    version=texts,
    sha256=hexes[64],
    url=st.none() | texts,
    index=st.none() | texts,
)
pythons = st.builds(
    Python,
    version=st.from_regex(r"3\.[0-9]{1,2}\.[0-9]{1,2}(rc[0-9])?", fullmatch=True),
    source=st.sampled_from(["conda", "host"]),
    executable=st.none() | texts,
)
bases = st.builds(
    Base,
    platform=st.sampled_from(["linux-64", "linux-aarch64"]),
    prefix=st.from_regex(r"/[^\n]{1,50}", fullmatch=True).filter(str.isprintable),
    python=pythons,
    virtual_packages=st.dictionaries(texts, texts, max_size=3),
    conda=st.lists(packages, max_size=3).map(tuple),
    wheels=st.lists(wheels, max_size=3).map(tuple),
    tools=st.dictionaries(texts, tools, max_size=2),
)
projects = st.builds(Project, name=texts, version=texts, commit=st.none() | texts)
layers = st.builds(
    Layer, digest=hexes[64].map("sha256:".__add__), projects=st.lists(projects).map(tuple)
)
manifests = st.builds(Manifest, base=bases, layer=st.none() | layers)
values = st.one_of(st.none(), st.integers(), texts, st.just([]), st.just({}), st.just([{}]))


def shuffled(value: Any, shuffle: Callable[[list[Any]], None]) -> Any:
    """The same JSON value, the members of every object in another order."""
    if isinstance(value, dict):
        items = [(key, shuffled(member, shuffle)) for key, member in value.items()]
        shuffle(items)
        return dict(items)
    return [shuffled(member, shuffle) for member in value] if isinstance(value, list) else value


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    if not isinstance(value, (dict, list)):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [place for key in keys for place in [(value, key), *places(value[key])]]


@pytest.mark.parametrize(("name", "manifest"), [("full", FULL), ("minimal", MINIMAL)])
def test_canonical_bytes_and_digests_are_pinned_for_ever(
    golden: Callable[[str, Any], None], name: str, manifest: Manifest
) -> None:
    golden(f"manifest-{name}.json", manifest.to_bytes())
    digests = f"base {manifest.base_digest}\nenvironment {manifest.environment_digest}\n"
    golden(f"manifest-{name}.digests", digests)


def test_the_layer_is_in_the_environments_digest_and_not_in_the_bases() -> None:
    bare = Manifest(base=FULL.base)
    assert bare.base_digest == FULL.base_digest
    assert bare.environment_digest not in (FULL.environment_digest, FULL.base_digest)


@given(manifest=manifests)
def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    assert parse_manifest(manifest.to_bytes()) == manifest


@given(manifest=manifests, seed=st.integers())
def test_the_order_of_members_changes_neither_bytes_nor_digests(
    manifest: Manifest, seed: int
) -> None:
    document = shuffled(manifest.to_dict(), random.Random(seed).shuffle)
    again = parse_manifest(json.dumps(document))
    assert again.to_bytes() == manifest.to_bytes()
    assert again.base_digest == manifest.base_digest
    assert again.environment_digest == manifest.environment_digest


@given(manifest=manifests)
def test_the_schema_takes_every_manifest(manifest: Manifest) -> None:
    VALIDATOR.validate(manifest.to_dict())


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@settings(max_examples=300)
@given(data=st.data(), manifest=st.one_of(st.just(FULL), manifests))
def test_what_cannot_be_read_the_schema_refuses_too(data: Any, manifest: Manifest) -> None:
    document = copy.deepcopy(manifest.to_dict())
    container, key = data.draw(st.sampled_from(places(document)))
    change = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if change == "replace":
        container[key] = data.draw(values)
    elif change == "remove":
        del container[key]
    elif isinstance(container, dict):
        container[data.draw(texts)] = data.draw(values)
    try:
        parse_manifest(json.dumps(document))
    except DocumentError:
        assert not VALIDATOR.is_valid(document)


WRONG: list[tuple[str, Callable[[Any], Any], str]] = [
    ("an unknown version", lambda d: d.update(manifest_version=2), "`manifest_version` 1"),
    ("no base", lambda d: d.pop("base"), "Expected `base`, found nothing"),
    ("an unknown member", lambda d: d.update(extra=1), "Unknown member `extra`"),
    ("another platform", lambda d: d["base"].update(platform="win-64"), "`base.platform`"),
    ("a relative prefix", lambda d: d["base"].update(prefix="opt"), "`base.prefix`"),
    ("an old Python", lambda d: d["base"]["python"].update(version="2.7.18"), "`base.python.ver"),
    ("an odd source", lambda d: d["base"]["python"].update(source="x"), "`base.python.source`"),
    ("a number", lambda d: d["base"]["virtual_packages"].update(__x=1), "`base.virtual_packages._"),
    ("no hash", lambda d: d["base"]["conda"][1].pop("md5"), "`base.conda[1].sha256` or `base.c"),
    ("a short md5", lambda d: d["base"]["conda"][1].update(md5="b"), "`base.conda[1].md5`"),
    ("a short hash", lambda d: d["base"]["wheels"][2].update(sha256="e"), "`base.wheels[2].sha2"),
    ("a raw name", lambda d: d["base"]["wheels"][0].update(name="Fl_ask"), "as `fl-ask`, found"),
    ("a tool's hash", lambda d: d["base"]["tools"]["uv"].pop("sha256"), "`base.tools.uv.sha256`"),
    ("a bare digest", lambda d: d["layer"].update(digest="1" * 64), "`layer.digest`"),
    ("a project", lambda d: d["layer"]["projects"][1].pop("name"), "`layer.projects[1].name`"),
    ("a null", lambda d: d["layer"]["projects"][1].update(commit=None), "`layer.projects[1].com"),
    ("a list", lambda d: d["base"].update(wheels={}), "Expected `base.wheels` a list"),
]


@pytest.mark.parametrize(("change", "message"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_an_error_names_the_dotted_path(change: Callable[[Any], Any], message: str) -> None:
    document = copy.deepcopy(FULL.to_dict())
    change(document)
    with pytest.raises(DocumentError) as caught:
        parse_manifest(json.dumps(document))
    assert message in caught.value.message
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize("text", ["", "{", b"\xff", "[]", "null", "1"])
def test_what_is_no_object_is_no_manifest(text: str | bytes) -> None:
    with pytest.raises(DocumentError):
        parse_manifest(text)
