"""The keywords of `Cluster`: what `help`, notebooks, type checkers and the page show of them."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.oinspect import Inspector

from envboot import Cluster, UsageError, publish_here
from envboot.cluster.arguments import DEFAULTS, ClusterOptions, MachineOptions
from envboot.cluster.spec import make_spec
from envboot.fleet.life import Lifetime
from envboot.package_sync import DEFAULTS as PACKAGE_SYNC
from envboot_provisioners.aws.options import OPTIONS as AWS
from envboot_provisioners.gcp.options import OPTIONS as GCP
from envboot_provisioners.option_values import CLOUD_OPTIONS
from tests.docs.pages import ROOT, read_rows, read_section
from tests.sessions import make_session

if TYPE_CHECKING:
    from envboot_provisioners import Option


def test_help_lists_every_keyword_with_its_default_and_its_line() -> None:
    shown = inspect.signature(Cluster).parameters
    keywords = dict(list(shown.items())[1:])
    assert shown["n_workers"].default == 4
    assert keywords.keys() == ClusterOptions.__annotations__.keys()
    assert all(each.kind is each.KEYWORD_ONLY for each in keywords.values())
    assert {name: keywords[name].default for name in DEFAULTS} == DEFAULTS
    assert {keywords[name].default for name in MachineOptions.__annotations__} == {None}
    assert keywords["environ"].annotation == "Mapping[str, str] | None"
    text = inspect.getdoc(Cluster) or ""
    missing = [name for name in shown if not re.search(rf"^ +{name}: \S", text, re.MULTILINE)]
    assert missing == []


def test_what_publishes_lists_its_keywords_too() -> None:
    shown = inspect.signature(publish_here).parameters
    assert {name: shown[name].default for name in PACKAGE_SYNC} == PACKAGE_SYNC
    text = inspect.getdoc(publish_here) or ""
    assert [name for name in shown if not re.search(rf"^ +{name}: \S", text, re.MULTILINE)] == []


def test_a_notebook_shows_them_all() -> None:
    make: Any = Inspector
    # Without a default from version 9 on.
    has_theme = "theme_name" in inspect.signature(make).parameters
    found = make(**({"theme_name": "nocolor"} if has_theme else {})).info(Cluster, "Cluster")
    shown = str(found["init_definition"] or found["definition"])
    assert [name for name in ClusterOptions.__annotations__ if name not in shown] == []
    assert "instance_type: The machines" in str(found["docstring"])


def test_a_class_of_ones_own_shows_its_own() -> None:
    class Mine(Cluster):
        def __init__(self, size: str) -> None:
            super().__init__(n_workers=len(size))

    assert list(inspect.signature(Mine).parameters) == ["size"]


def name_type(option: Option) -> str:
    """Return which values an option takes in Python, as a type checker reads it."""
    if option.choices:
        return f"Literal[{', '.join(map(repr, option.choices))}]"
    return {"flag": "bool", "number": "int", "list": "str | Sequence[str]", "text": "str"}[
        option.kind
    ]


def test_the_types_of_the_clouds_options_are_those_of_their_tables() -> None:
    wanted: dict[str, set[str]] = {}
    for option in (*CLOUD_OPTIONS, *AWS, *GCP):
        wanted.setdefault(option.name.replace("-", "_"), set()).add(name_type(option))
    found = {
        name: annotation.__forward_arg__.removesuffix(" | None")
        for name, annotation in MachineOptions.__annotations__.items()
    }
    # One cloud takes several where the other takes one: the wider type has both.
    assert found == {name: max(types, key=len) for name, types in wanted.items()}
    assert all(min(types, key=len) in found[name] for name, types in wanted.items())


def test_the_page_has_every_keyword_that_is_no_clouds() -> None:
    rows = read_rows(read_section(ROOT / "docs/dask.md", "Arguments"))
    assert rows.keys() == {"n_workers", *DEFAULTS}


def test_keywords_become_one_specification() -> None:
    given = {
        "provisioner": "aws",
        "store": "s3://bucket",
        "instance_type": "m6i.large",
        "zone": ("eu-central-1a", "eu-central-1b"),
        "spot": True,
        "auth": "role",
        "on_interruption": None,
        "imds": "deny",
        "package_sync_ignore": "jupyterlab",
        "package_sync_use_uv_installer": True,
        "cuda": "12.4",
        "expires": 90,
        "max_life": "12h",
        "worker_options": {"nthreads": 2},
        "name": "mine",
    }
    spec = make_spec(given, make_session())
    assert spec.options == {
        "instance-type": "m6i.large",
        "zone": ("eu-central-1a", "eu-central-1b"),
        "spot": "true",
    }
    assert spec.steady.keys() == {"instance-type", "zone"}
    assert (spec.auth.value, spec.seconds, spec.timeout, spec.hook) == ("role", 90, 900, None)
    assert spec.imds == "deny"
    assert spec.life == Lifetime(max_life=12 * 3600)
    assert make_spec({**given, "max_life": "never"}, make_session()).life.max_life is None
    assert (spec.selection.ignore, spec.selection.cuda) == (("jupyterlab",), "12.4")
    assert spec.worker[-2:] == ("--nthreads", "2")


@pytest.mark.parametrize(
    ("name", "hint"), [("n_worker", "n_workers"), ("spott", "spot"), ("quite", "quiet")]
)
def test_a_slip_is_told_with_what_was_meant(name: str, hint: str) -> None:
    given = {"provisioner": "aws", "store": "s3://bucket", name: 1}
    with pytest.raises(UsageError, match=f"Unknown option `{name}`") as told:
        make_spec(given, make_session())
    assert told.value.hint == f"Did you mean `{hint}`?"
