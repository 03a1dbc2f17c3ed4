"""A provisioner's own options: as settings of the project, and as a program gives them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from envboot.errors import UsageError, name_some
from envboot_provisioners import Option

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from envboot.config import Settings
    from envboot_provisioners import Options, Provisioner


CLOUD_OPTIONS = (
    Option(
        name="auth",
        choices=("urls", "role"),
        help="How instances may use the bucket: by signed URLs, or by their own role."
        "  [default: urls]",
    ),
    Option(
        name="on-interruption",
        metavar="COMMAND",
        help="A shell command for when the platform is about to take an instance back.",
    ),
    Option(
        name="imds",
        choices=("allow", "deny"),
        help="Whether your command can reach the metadata service, which has user-data and the "
        "credentials of the role.  [default: deny, unless instances have a role]",
    ),
)
"""Of every provisioner whose instances can have a role, beside its own."""


_ROLES = ("instance-profile", "service-account")


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudChoice:
    """What `CLOUD_OPTIONS` were set to.

    `imds` is None where neither the user nor an option that gives instances a role decides.
    """

    auth: Literal["urls", "role"]
    hook: str | None
    imds: Literal["allow", "deny"] | None


def split_cloud(options: Options) -> tuple[CloudChoice, Options]:
    """Return what the user set of `CLOUD_OPTIONS`, and the provisioner's own options."""
    hook = options.get("on-interruption")
    imds: Any = options.get("imds")
    if not imds and any(name in options for name in _ROLES):
        # Whoever gives instances a role wants the command to have it.
        imds = "allow"
    choice = CloudChoice(
        auth="role" if options.get("auth") == "role" else "urls",
        hook=str(hook) if hook else None,
        imds=imds,
    )
    ours = {option.name for option in CLOUD_OPTIONS}
    return choice, {name: value for name, value in options.items() if name not in ours}


def own_options(provisioner: Provisioner) -> tuple[Option, ...]:
    """Return all that can be set for one provisioner's launches alone."""
    return provisioner.options + (CLOUD_OPTIONS if provisioner.role else ())


def add_settings(
    provisioner: str, options: Sequence[Option], given: Options, settings: Settings
) -> Options:
    """Return what the command line gives, and beneath it what `[tool.envboot.<provisioner>]` says.

    Raises:
        UsageError: a setting is unknown, or of another type; with its dotted path.
    """
    known = {option.name: option for option in options}
    found: dict[str, str | tuple[str, ...]] = {}
    for name, value in settings.provisioners.get(provisioner, {}).items():
        path = f"tool.envboot.{provisioner}.{name}"
        if name not in known:
            hint = f"Known are {name_some(sorted(known), most=len(known))}" if known else None
            raise UsageError(f"Unknown key `{path}`", hint=hint)
        if read := read_option(known[name], value, path):
            found[name] = read
    return {**found, **given}


def read_option(option: Option, value: Any, path: str) -> str | tuple[str, ...] | None:
    """Return what an option is set to by a value of TOML or Python, None where that is nothing.

    Raises:
        UsageError: it is of another type; `path` names where it stands.
    """
    if option.kind == "flag" and isinstance(value, bool):
        return "true" if value else None
    if option.kind == "number" and type(value) is int and value > 0:
        return str(value)
    if option.kind == "list" and isinstance(value, list):
        if all(isinstance(item, str) and item for item in value):
            return tuple(value)
    elif option.kind == "text" and isinstance(value, str) and value:
        if option.choices and value not in option.choices:
            raise UsageError(
                f"Expected one of {name_some(list(option.choices))} at `{path}`, found `{value}`"
            )
        return value
    wanted = {
        "flag": "true or false",
        "number": "a whole number above 0",
        "list": "a list of strings",
        "text": "a string",
    }[option.kind]
    raise UsageError(f"Expected {wanted} at `{path}`, found `{value!r:.60}`")


def read_keywords(
    options: Sequence[Option], given: Mapping[str, Any], owner: str, beside: Iterable[str] = ()
) -> Options:
    """Return what keyword arguments set: `instance_type="m6i.large"` is `--instance-type`.

    `beside` are arguments that are no options, and may be what a slip was meant to be.

    Raises:
        UsageError: `owner`, which takes them, has no such option, or it is of another type.
    """
    known = {option.name.replace("-", "_"): option for option in options}
    found: dict[str, str | tuple[str, ...]] = {}
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *beside], n=1)
            hint = f"Did you mean `{near[0]}`?" if near else None
            if not near and known:
                hint = f"Known are {name_some(sorted(known), most=len(known))}"
            raise UsageError(f"Unknown option `{name}` of {owner}", hint=hint)
        as_given = list(value) if isinstance(value, tuple) else value
        if known[name].kind == "list" and isinstance(as_given, str):
            as_given = [as_given]
        if value is not None and (read := read_option(known[name], as_given, name)):
            found[known[name].name] = read
    return found
