"""A saved scan is read strictly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envboot.errors import DocumentError
from envboot.scan.schema import CondaRecord, Distribution, Interpreter, Problem, Scan, parse_scan

INTERPRETER = Interpreter(
    version="3.11.7",
    implementation="cpython",
    executable="/v/bin/python",
    base_executable="/usr/bin/python3.11",
    prefix="/v",
    base_prefix="/usr",
    tag="cpython-311",
    purelib="/v/lib/python3.11/site-packages",
    platlib="/v/lib/python3.11/site-packages",
)
SCAN = Scan(
    kind="venv",
    platform="linux-64",
    glibc="2.36",
    interpreter=INTERPRETER,
    conda=(CondaRecord(name="a", version="1", build="b", channel="c", subdir="noarch", url="u"),),
    distributions=(
        Distribution(name="one", version="1.0", location="/v", tags=("py3-none-any",)),
        Distribution(name="two", version="1.0", location="/v", direct_url={"url": "file:///x"}),
    ),
    problems=(Problem(subject="one", message="Has no RECORD"),),
)

texts = st.text(max_size=8)
names = st.from_regex(r"[a-z0-9]+(-[a-z0-9]+)*", fullmatch=True)
distributions = st.builds(
    Distribution,
    name=names,
    version=texts,
    location=texts,
    installer=st.none() | texts,
    tags=st.lists(texts, max_size=2).map(tuple),
    record=st.sampled_from(["ok", "missing", "drifted"]),
    direct_url=st.none() | st.fixed_dictionaries({"url": texts}),
    editable=st.booleans(),
    conda=st.none() | texts,
)


def change(path: str, value: Any) -> str:
    """Return the document with one member changed; `...` removes it."""
    document = json.loads(json.dumps(SCAN.to_dict()))
    *folders, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    target = document
    for part in folders:
        target = target[part]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return json.dumps(document)


def test_a_scan_reads_back_as_it_was_written() -> None:
    assert parse_scan(json.dumps(SCAN.to_dict())) == SCAN


@given(st.lists(distributions, max_size=3).map(tuple))
def test_any_distributions_read_back_as_they_were_written(
    found: tuple[Distribution, ...],
) -> None:
    scan = Scan(
        kind="system", platform="p", glibc=None, interpreter=INTERPRETER, distributions=found
    )
    assert parse_scan(json.dumps(scan.to_dict())) == scan


def test_the_version_comes_first_and_absent_members_are_not_written() -> None:
    document = SCAN.to_dict()
    assert next(iter(document)) == "scan_version"
    assert "null" not in json.dumps(document)


@pytest.mark.parametrize(
    ("path", "value", "blamed"),
    [
        ("kind", "docker", "kind"),
        ("platform", ..., "platform"),
        ("glibc", 2.36, "glibc"),
        ("interpreter/tag", ..., "interpreter.tag"),
        ("interpreter/pip", "1", "interpreter.pip"),
        ("conda/0/url", None, "conda[0].url"),
        ("conda/0/files", [], "conda[0].files"),
        ("distributions/1/name", "Two", "distributions[1].name"),
        ("distributions/0/tags/0", 1, "distributions[0].tags[0]"),
        ("distributions/0/record", "fine", "distributions[0].record"),
        ("distributions/0/editable", "yes", "distributions[0].editable"),
        ("distributions/1/direct_url", "file:///x", "distributions[1].direct_url"),
        ("problems/0/message", ..., "problems[0].message"),
        ("extra", 1, "extra"),
    ],
)
def test_a_wrong_member_is_named_by_its_dotted_path(path: str, value: Any, blamed: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_scan(change(path, value))
    assert f"`{blamed}`" in caught.value.message


def test_another_version_and_other_texts_are_refused() -> None:
    with pytest.raises(DocumentError, match="Expected `scan_version` 1, found `2`"):
        parse_scan(change("scan_version", 2))
    with pytest.raises(DocumentError, match="Expected a scan in JSON"):
        parse_scan("name: yaml")
    with pytest.raises(DocumentError, match="Expected an object"):
        parse_scan("[]")
