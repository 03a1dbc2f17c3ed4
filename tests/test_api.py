"""The public Python API: its names, its page, and what importing it costs."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from typing import Any

import pytest

import envboot
from envboot import errors
from envboot.errors import EnvbootError
from tests.docs.pages import ROOT, find_blocks, find_spans

API = ROOT / "docs/api.md"
PAGES = [ROOT / "README.md", API, ROOT / "docs/dask.md", ROOT / "docs/reference.md"]
HEAVY = {"boto3", "botocore", "click", "cryptography", "dask", "distributed", "google", "jinja2"}
SOURCES = str(ROOT / "bootstrap")


def test_every_name_can_be_imported_and_is_documented_where_it_is_defined() -> None:
    assert envboot.__all__ == sorted(envboot.__all__)
    for name in envboot.__all__:
        found: Any = getattr(envboot, name)
        assert found.__name__ == name
        assert inspect.getdoc(found), name
        assert vars(found).get("__doc__", found.__doc__), f"{name} only inherits its words"


def test_every_error_is_public() -> None:
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, EnvbootError)
    }
    assert kinds <= set(envboot.__all__)


def test_every_name_is_on_the_page_and_in_an_example() -> None:
    text = API.read_text("utf-8")
    rows = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| "))
    named = {span.partition("(")[0] for span in find_spans(rows)}
    assert set(envboot.__all__) <= named
    examples = "\n".join(find_blocks(text, "python"))
    imported = {name for name in envboot.__all__ if f"{name}" in examples}
    assert imported == set(envboot.__all__)


def test_pages_tell_nobody_to_import_what_is_not_public() -> None:
    found = (ROOT / "bootstrap/envboot").iterdir()
    inner = {path.stem for path in found if path.suffix in ("", ".py")}
    for page in PAGES:
        text = page.read_text("utf-8")
        code = "\n".join([*find_blocks(text, "python"), *find_spans(text)])
        assert not set(re.findall(r"(?<![\w.])envboot\.(\w+)", code)) & inner, page.name


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module `envboot` has no attribute `nonsense`"):
        getattr(envboot, "nonsense")  # noqa: B009
    assert set(envboot.__all__) <= set(dir(envboot))
    assert "__version__" in dir(envboot)


def run(code: str) -> str:
    """Run code in an interpreter that has our sources and nothing else, not even `site`."""
    start = f"import sys; sys.path.insert(0, {SOURCES!r})\n"
    command = [sys.executable, "-I", "-S", "-c", start + code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.subprocess
def test_importing_it_imports_nothing_that_it_may_not_need() -> None:
    show = "import json; print(json.dumps(sorted(sys.modules)))"
    before, after = json.loads(run(show)), json.loads(run(f"import envboot; {show}"))
    assert set(after) - set(before) <= {"envboot", "__future__"}


@pytest.mark.subprocess
def test_no_name_but_the_cluster_imports_a_cloud_or_dask() -> None:
    code = "import envboot, sys\nfor name in {*envboot.__all__} - {'Cluster'}:\n"
    code += "    getattr(envboot, name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    modules = done.stdout.split()
    # A `.pth` file makes the namespace `google` before anything runs.
    assert not {module.partition(".")[0] for module in modules} & HEAVY - {"google"}
    assert not [module for module in modules if module.startswith("google.cloud.")]


@pytest.mark.subprocess
def test_importing_it_takes_less_than_50_ms() -> None:
    clock = "import time; start = time.perf_counter()\n{}\nprint(time.perf_counter() - start)"
    # Of several, the one that nothing else on the machine disturbed.
    times = [
        (float(run(clock.format("pass"))), float(run(clock.format("import envboot"))))
        for _ in range(5)
    ]
    bare, ours = (min(column) for column in zip(*times, strict=True))
    assert ours - bare < 0.050


@pytest.mark.subprocess
def test_the_examples_of_all_pages_pass_the_type_checker(tmp_path: Any) -> None:
    files = []
    for page in PAGES:
        if blocks := find_blocks(page.read_text("utf-8"), "python"):
            files.append(tmp_path / f"{page.stem.lower()}_example.py")
            # Dask's `Client` has no types.
            head = "# mypy: disable-error-code=no-untyped-call\n"
            files[-1].write_text(head + "\n".join(blocks))
    wrong = tmp_path / "wrong_example.py"
    wrong.write_text(
        "import envboot\nenvboot.nonsense\nenvboot.Cluster(instance_typ='m6i.large')\n"
        "envboot.publish_here('x', package_sync_ignored=[])\n"
    )
    command = [sys.executable, "-m", "mypy", *map(str, [*files, wrong])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(lines) == 3, done.stdout + done.stderr
    assert all("wrong_example.py" in line for line in lines)
