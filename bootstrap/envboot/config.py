"""`[tool.envboot]` of the user's pyproject.toml, and the pinned tools."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import Enum
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from envboot.documents import find_table
from envboot.errors import UsageError
from envboot.manifest import Tool
from envboot.text import SIZE
from envboot.toml import read_data, tomllib

if TYPE_CHECKING:
    from pathlib import Path

CHANNELS = ("conda-forge",)
GLIBC = "2.28"
LOOSE_LIMIT = 100

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PACKAGE = re.compile(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?")  # PEP 508
_GLIBC = re.compile(r"2\.\d+")
_ENDPOINT = re.compile(r"https?://[^\s/?#@]+(/[^\s?#@]*)?")
_REGION = re.compile(r"[a-z0-9-]+")
_KMS_KEY = re.compile(r"[A-Za-z0-9:/_.-]+")
_PROJECT = re.compile(r"[a-z0-9.:-]+")
_CLOUD_KMS_KEY = re.compile(r"projects/[^/\s]+/locations/[\w-]+/keyRings/[\w-]+/cryptoKeys/[\w-]+")
_S3 = {"endpoint-url": _ENDPOINT, "region": _REGION, "kms-key": _KMS_KEY}
_GCS = {"endpoint-url": _ENDPOINT, "project": _PROJECT, "kms-key": _CLOUD_KMS_KEY}


class Trust(str, Enum):
    """Whose archives and published environments a launch may use."""

    ANY = "any"
    OWN = "own"
    SIGNED = "signed"


_KNOWN = (
    "add",
    "allowed-signers",
    "channels",
    "exclude",
    "gcs",
    "glibc",
    "ignore",
    "include",
    "loose-limit",
    "no-build-isolation",
    "output",
    "output-ignore",
    "output-limit",
    "require",
    "s3",
    "secrets",
    "signing-key",
    "store",
    "strict",
    "tools",
    "torch-index",
    "trust",
)
_TRUST = re.compile("|".join(each.value for each in Trust))


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Settings:
    """Where an `s3://` bucket is, and how its objects are encrypted; None is boto3's own choice.

    `kms_key` is the id, ARN or alias of a KMS key that encrypts whatever is written.
    """

    endpoint_url: str | None = None
    region: str | None = None
    kms_key: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GcsSettings:
    """Where a `gs://` bucket is, and how its objects are encrypted; None is Google's own choice.

    `project` is where a new bucket is made, `kms_key` the resource name of a Cloud KMS key that
    encrypts whatever is written.
    """

    endpoint_url: str | None = None
    project: str | None = None
    kms_key: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What a project asks for.

    `tools` override the pins by name; `channels` give the interpreter of an environment that
    is not conda's; `glibc` is the oldest that a guest may have; `store` is the default bucket.
    `exclude` are patterns of loose code that stays here, as in `.gitignore`, and `include` those
    of what goes with it though it is no code; `loose_limit` is how many MB (10^6 bytes) may travel.
    `output`, `output_ignore` and `output_limit` say what of a command comes home.
    `torch_index` is a mirror of PyTorch's indexes; `s3` is for buckets of `s3://`, `gcs` for those
    of `gs://`; `provisioners` are tables of their own options by name, which they read themselves.
    `require` names packages that no environment may lack; `ignore` and `add` come before what
    the command line says. `strict` refuses whatever differs from what is installed.
    `no_build_isolation` names, normalised, the projects that are built with the packages of the
    environment. `allowed_signers` and `signing_key` are files, absolute or below `~`; the latter
    may also be a public key whose private half an SSH agent has. `secrets` are those that every
    command gets, as `--secret` has them.
    """

    tools: dict[str, Tool] = field(default_factory=dict)
    channels: tuple[str, ...] = CHANNELS
    glibc: str = GLIBC
    store: str | None = None
    trust: Trust | None = None
    allowed_signers: str | None = None
    signing_key: str | None = None
    require: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    loose_limit: int = LOOSE_LIMIT
    output: tuple[str, ...] = ()
    output_ignore: tuple[str, ...] = ()
    output_limit: str | None = None
    torch_index: str | None = None
    strict: bool = False
    s3: S3Settings = field(default_factory=S3Settings)
    gcs: GcsSettings = field(default_factory=GcsSettings)
    no_build_isolation: tuple[str, ...] = ()
    provisioners: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_settings(folder: Path) -> Settings:
    """Read `[tool.envboot]` of the nearest pyproject.toml at or above `folder`, an absolute path.

    Raises:
        UsageError: the file is no TOML, or a key is unknown or malformed; the message has
            the dotted path, as in `tool.envboot.tools.uv.sha256`.
    """
    for place in (folder, *folder.parents):
        file = place / "pyproject.toml"
        if file.is_file():
            try:
                return _locate(parse_settings(file.read_text("utf-8")), place)
            except UsageError as error:
                raise UsageError(
                    error.message, causes=(*error.causes, f"Read from `{file}`"), hint=error.hint
                ) from error
    return Settings()


def is_public_key(text: str) -> bool:
    """Tell a public key, as in `ssh-ed25519 AAAA…`, from the name of a file."""
    return re.match(r"(ssh|ecdsa|sk)-\S+ +AAAA", text) is not None


def _locate(settings: Settings, place: Path) -> Settings:
    """Read relative names of files as seen from the project, wherever envboot is run."""

    def find(name: str | None) -> str | None:
        if name is None or name.startswith("~") or is_public_key(name):
            return name
        return str(place / name)

    return replace(
        settings,
        allowed_signers=find(settings.allowed_signers),
        signing_key=find(settings.signing_key),
    )


def parse_settings(text: str) -> Settings:
    """Read `[tool.envboot]` from the text of a pyproject.toml; raises `UsageError`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError("Expected TOML in `pyproject.toml`", causes=(str(error),)) from error
    rest = _table(_table(document.get("tool", {}), "tool").get("envboot", {}), "tool.envboot")
    path = "tool.envboot"
    settings = Settings(
        tools=_parse_tools(rest.pop("tools", {}), f"{path}.tools"),
        channels=_parse_channels(rest.pop("channels", list(CHANNELS)), f"{path}.channels"),
        glibc=_text(rest, "glibc", path, _GLIBC) if "glibc" in rest else GLIBC,
        store=_maybe_text(rest, "store", path),
        trust=Trust(_text(rest, "trust", path, _TRUST)) if "trust" in rest else None,
        allowed_signers=_maybe_text(rest, "allowed-signers", path),
        signing_key=_maybe_text(rest, "signing-key", path),
        require=_strings(rest, "require", path),
        ignore=_strings(rest, "ignore", path),
        add=_strings(rest, "add", path),
        secrets=_strings(rest, "secrets", path),
        exclude=_patterns(rest, "exclude", path),
        include=_patterns(rest, "include", path),
        loose_limit=_parse_limit(rest.pop("loose-limit", LOOSE_LIMIT), f"{path}.loose-limit"),
        output=_strings(rest, "output", path),
        output_ignore=_patterns(rest, "output-ignore", path),
        output_limit=_text(rest, "output-limit", path, SIZE) if "output-limit" in rest else None,
        torch_index=_maybe_text(rest, "torch-index", path),
        strict=_flag(rest, "strict", path),
        s3=S3Settings(**_parse_bucket(rest.pop("s3", {}), f"{path}.s3", _S3)),
        gcs=GcsSettings(**_parse_bucket(rest.pop("gcs", {}), f"{path}.gcs", _GCS)),
        no_build_isolation=(*_names(rest, "no-build-isolation", path), *_read_uv(document)),
        provisioners={
            name: _table(rest.pop(name), f"{path}.{name}")
            for name in entry_points(group="envboot.provisioners").names & rest.keys()
        },
    )
    made = sorted(entry_points(group="envboot.provisioners").names)
    _refuse_unknown(rest, path, (*_KNOWN, *made))
    return settings


def _parse_tools(value: Any, path: str) -> dict[str, Tool]:
    tools = {}
    for name, pin in _table(value, path).items():
        at = f"{path}.{name}"
        rest = _table(pin, at)
        if name not in ("micromamba", "uv"):
            raise UsageError(f"Unknown key `{at}`", hint="Known are `micromamba` and `uv`")
        tools[name] = Tool(
            version=_text(rest, "version", at),
            url=_text(rest, "url", at),
            sha256=_text(rest, "sha256", at, _SHA256),
        )
        _refuse_unknown(rest, at, ("sha256", "url", "version"))
    return tools


def _parse_bucket(value: Any, path: str, patterns: dict[str, re.Pattern[str]]) -> dict[str, str]:
    rest = _table(value, path)
    found = {
        name.replace("-", "_"): _text(rest, name, path, pattern)
        for name, pattern in patterns.items()
        if name in rest
    }
    _refuse_unknown(rest, path, tuple(patterns))
    return found


def _parse_channels(value: Any, path: str) -> tuple[str, ...]:
    if isinstance(value, list) and value and all(isinstance(item, str) and item for item in value):
        return tuple(value)
    raise UsageError(f"Expected a list of channels at `{path}`, found `{value!r:.60}`")


def _patterns(rest: dict[str, Any], key: str, path: str) -> tuple[str, ...]:
    patterns = _strings(rest, key, path)
    if patterns:
        from pathspec import GitIgnoreSpec

        try:
            GitIgnoreSpec.from_lines(patterns)
        except ValueError as error:
            raise UsageError(
                f"Expected patterns as in `.gitignore` at `{path}.{key}`", causes=(str(error),)
            ) from error
    return patterns


def _parse_limit(value: Any, path: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise UsageError(f"Expected a number of MB above 0 at `{path}`, found `{value!r:.60}`")


def _table(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"Expected a table at `{path}`, found `{value!r:.60}`")
    return dict(value)


def _text(rest: dict[str, Any], key: str, path: str, pattern: re.Pattern[str] | None = None) -> str:
    value = rest.pop(key, None)
    if not isinstance(value, str) or not value or (pattern and not pattern.fullmatch(value)):
        wanted = f" to match `{pattern.pattern}`" if pattern else " a string"
        found = "nothing" if value is None else f"`{value!r:.80}`"
        raise UsageError(f"Expected `{path}.{key}`{wanted}, found {found}")
    return value


def _maybe_text(rest: dict[str, Any], key: str, path: str) -> str | None:
    return _text(rest, key, path) if key in rest else None


def _strings(rest: dict[str, Any], key: str, path: str) -> tuple[str, ...]:
    value = rest.pop(key, [])
    if isinstance(value, list) and all(isinstance(item, str) and item for item in value):
        return tuple(value)
    raise UsageError(f"Expected a list of strings at `{path}.{key}`, found `{value!r:.60}`")


def _names(rest: dict[str, Any], key: str, path: str) -> tuple[str, ...]:
    """Return names of packages, normalised after PEP 503."""
    names = _strings(rest, key, path)
    wrong = [name for name in names if not _PACKAGE.fullmatch(name)]
    if wrong:
        raise UsageError(f"Expected names of packages at `{path}.{key}`, found `{wrong[0]:.60}`")
    return tuple(re.sub(r"[-_.]+", "-", name).lower() for name in names)


def _read_uv(document: Any) -> tuple[str, ...]:
    """Return the projects that uv's own settings of the same file build without isolation."""
    names = find_table(document, "tool", "uv").get("no-build-isolation-package")
    return _names(
        {"no-build-isolation-package": names or []}, "no-build-isolation-package", "tool.uv"
    )


def _flag(rest: dict[str, Any], key: str, path: str) -> bool:
    value = rest.pop(key, False)
    if isinstance(value, bool):
        return value
    raise UsageError(f"Expected `true` or `false` at `{path}.{key}`, found `{value!r:.60}`")


def _refuse_unknown(rest: dict[str, Any], path: str, known: tuple[str, ...]) -> None:
    if rest:
        names = ", ".join(f"`{name}`" for name in known)
        raise UsageError(f"Unknown key `{path}.{min(rest)}`", hint=f"Known are {names}")


def find_tool(name: str, platform: str, settings: Settings) -> Tool:
    """Return the pin of `micromamba` or `uv` for a platform, the project's own before ours."""
    if name in settings.tools:
        return settings.tools[name]
    pins = read_data("tools.toml")[name]
    return Tool(version=pins["version"], **pins[platform])
