"""Packages that exist on some platforms only, from a table of data."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from packaging.utils import canonicalize_name

from envboot.toml import read_data

_SYSTEMS = {"osx": "macOS", "win": "Windows"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """Packages that exist on the platforms of `only` (conda's names, or how these begin).

    `packages` are normalised names of PyPI's and conda's packages, `conda` of conda's alone; `*`
    stands for anything. `instead` is a requirement with `{minor}` in it, for other platforms.
    """

    only: tuple[str, ...]
    packages: tuple[str, ...] = ()
    conda: tuple[str, ...] = ()
    instead: str | None = None

    @property
    def reason(self) -> str:
        """Say where these packages exist."""
        return f"exists on {' and '.join(_SYSTEMS.get(name, name) for name in self.only)} only"


@cache
def read_rules() -> tuple[Rule, ...]:
    """Read `platform-packages.toml`."""
    document = read_data("platform-packages.toml")
    return tuple(
        Rule(
            only=tuple(rule["only"]),
            packages=tuple(map(canonicalize_name, rule.get("packages", ()))),
            conda=tuple(map(canonicalize_name, rule.get("conda", ()))),
            instead=rule.get("instead"),
        )
        for rule in document["rules"]
    )


def find_rule(name: str, *, conda: bool, here: str, there: str) -> Rule | None:
    """Return the rule that keeps a package of platform `here` from going to `there`."""
    for rule in read_rules():
        if here.startswith(rule.only) and not there.startswith(rule.only):
            patterns = (*rule.packages, *rule.conda) if conda else rule.packages
            if any(fnmatchcase(canonicalize_name(name), pattern) for pattern in patterns):
                return rule
    return None
