"""The manifest: what must be in the prefix, exact, for one target platform. Pure.

`docs/manifest.schema.json` is the published JSON Schema (draft 2020-12) of the same document.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, cast

from envboot.agent import wire
from envboot.conda_names import CondaName, parse_name
from envboot.documents import Node, parse_json, plain
from envboot.errors import DocumentError
from envboot.platforms import TARGETS

PREFIX = "/opt/envboot/env"

_HEX = {"sha256": re.compile(r"[0-9a-f]{64}"), "md5": re.compile(r"[0-9a-f]{32}")}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Python:
    """The interpreter: from a conda package of the base, or the host's own (`local` only)."""

    version: str
    source: Literal["conda", "host"]
    executable: str | None = None

    @property
    def minor(self) -> str:
        """`3.11` for `3.11.7`."""
        return ".".join(self.version.split(".")[:2])


@dataclass(frozen=True, kw_only=True, slots=True)
class CondaPackage:
    """One conda package as an explicit URL without credentials, and its hash."""

    url: str
    sha256: str | None = None
    md5: str | None = None

    @property
    def file(self) -> str:
        """The file's name, as it stands in the URL."""
        return self.url.rpartition("/")[2]

    @property
    def channel(self) -> str:
        """The URL of the channel, which has a directory for each platform."""
        return self.url.rsplit("/", 2)[0]

    @property
    def named(self) -> CondaName:
        """Name, version and build string by the file's name; one that is odd is all name."""
        return parse_name(self.url) or CondaName(name=self.file, version="", build="")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    """One wheel, after PEP 751: found by hash on `index` (None: PyPI), or at `url` itself."""

    name: str
    version: str
    sha256: str
    url: str | None = None
    index: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A program that the guest installs with, pinned."""

    version: str
    url: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """Everything that costs an installation when it changes."""

    platform: str
    python: Python
    prefix: str = PREFIX
    virtual_packages: dict[str, str]
    conda: tuple[CondaPackage, ...] = ()
    wheels: tuple[Wheel, ...] = ()
    tools: dict[str, Tool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """One local or git project in the layer: its name, version and, from git, its commit."""

    name: str
    version: str
    commit: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """The local layer: sha256 of its uncompressed tar, and what is in it."""

    digest: str
    projects: tuple[Project, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What must be in the prefix; its two digests name it in the bucket and on the guest."""

    base: Base
    layer: Layer | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document, `manifest_version` first, absent members left out."""
        document = {"manifest_version": wire.MANIFEST_VERSION, "base": plain(self.base)}
        if self.layer:
            document["layer"] = plain(self.layer)
        return document

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return wire.canonical(self.to_dict())

    @property
    def base_digest(self) -> str:
        """`sha256:…` over `base`."""
        return wire.base_digest(self.to_dict())

    @property
    def environment_digest(self) -> str:
        """`sha256:…` over `base` and `layer`."""
        return wire.environment_digest(self.to_dict())


def parse_manifest(text: str | bytes) -> Manifest:
    """Read a manifest document.

    Raises:
        DocumentError: it is not JSON, not of a version known here, or a value is missing,
            unknown or malformed; the message has the dotted path.
    """
    node = Node(parse_json(text, "manifest"), "")
    found = node.take("manifest_version", int)
    if found != wire.MANIFEST_VERSION:
        raise DocumentError(
            f"Expected `manifest_version` {wire.MANIFEST_VERSION}, found `{found}`",
            hint="Upgrade envboot, or make the manifest again",
        )
    base = _parse_base(node.child("base"))
    layer = _parse_layer(node.child("layer")) if node.has("layer") else None
    node.end()
    return Manifest(base=base, layer=layer)


def _parse_base(node: Node) -> Base:
    python = node.child("python")
    base = Base(
        platform=node.take("platform", str, re.compile("|".join(TARGETS))),
        prefix=node.take("prefix", str, re.compile(r"/.{1,254}")),
        python=Python(
            version=python.take("version", str, re.compile(r"3\.\d+\.\d+\S*")),
            source=cast(
                "Literal['conda', 'host']",
                python.take("source", str, re.compile("conda|host")),
            ),
            executable=python.find("executable"),
        ),
        virtual_packages=_parse_strings(node.child("virtual_packages")),
        conda=tuple(_parse_conda(child) for child in node.children("conda")),
        wheels=tuple(_parse_wheel(child) for child in node.children("wheels")),
        tools=_parse_tools(node.child("tools")),
    )
    python.end()
    node.end()
    return base


def _parse_strings(node: Node) -> dict[str, str]:
    return {key: node.take(key, str) for key in list(node.rest)}


def _parse_conda(node: Node) -> CondaPackage:
    package = CondaPackage(
        url=node.take("url", str),
        sha256=node.find("sha256", _HEX["sha256"]),
        md5=node.find("md5", _HEX["md5"]),
    )
    if not (package.sha256 or package.md5):
        raise DocumentError(f"Expected `{node.at('sha256')}` or `{node.at('md5')}`, found neither")
    node.end()
    return package


def _parse_wheel(node: Node) -> Wheel:
    from packaging.utils import canonicalize_name  # 10 ms that a scan does not need

    wheel = Wheel(
        name=node.take("name", str),
        version=node.take("version", str),
        sha256=node.take("sha256", str, _HEX["sha256"]),
        url=node.find("url"),
        index=node.find("index"),
    )
    if wheel.name != canonicalize_name(wheel.name):
        wanted = canonicalize_name(wheel.name)
        raise DocumentError(f"Expected `{node.at('name')}` as `{wanted}`, found `{wheel.name}`")
    node.end()
    return wheel


def _parse_tools(node: Node) -> dict[str, Tool]:
    tools = {}
    for name in list(node.rest):
        tool = node.child(name)
        tools[name] = Tool(
            version=tool.take("version", str),
            url=tool.take("url", str),
            sha256=tool.take("sha256", str, _HEX["sha256"]),
        )
        tool.end()
    return tools


def _parse_layer(node: Node) -> Layer:
    projects = []
    layer_digest = node.take("digest", str, _DIGEST)
    for child in node.children("projects"):
        projects.append(
            Project(
                name=child.take("name", str),
                version=child.take("version", str),
                commit=child.find("commit"),
            )
        )
        child.end()
    node.end()
    return Layer(digest=layer_digest, projects=tuple(projects))
