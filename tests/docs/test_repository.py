"""All pages: links lead somewhere, commands exist; no file tells of the machine or the making."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from urllib.parse import unquote, urlsplit

import click
import pytest

from tests.docs import sources
from tests.docs.commands import find_command
from tests.docs.pages import PAGES, REFERENCE, ROOT, find_commands, read_rows, read_section

IDS = [path.relative_to(ROOT).as_posix() for path in PAGES]
_LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)>\s]+)>?[^)]*\)|<(?:a|img)[^>]*(?:href|src)=\"([^\"]+)\"")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)

# Spelt in pieces, since this file is one of those that are searched.
WORDS = (
    *("/wo" + "rk/main", "/wo" + "rk/sha" + "red", ".lib" + "rary/"),
    *("sub" + "agent", "Cla" + "ude", "anth" + "ropic", "AI-gen" + "erated"),
)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_relative_link_leads_somewhere(page: os.PathLike[str]) -> None:
    path = ROOT / page
    text = _FENCE.sub("", path.read_text("utf-8"))
    broken = []
    for found in _LINK.finditer(text):
        target = found[1] or found[2]
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not file.exists() or (parts.fragment and parts.fragment not in _anchors(file)):
            broken.append(target)
    assert broken == []


def test_the_security_model_names_tests_that_exist() -> None:
    text = (ROOT / "docs/security.md").read_text("utf-8")
    files = re.findall(r"`(tests/[^`]+)`", text)
    names = re.findall(r"`(test_\w+)`", text)
    code = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert files
    assert [file for file in files if not (ROOT / file).is_file()] == []
    assert [name for name in names if f"def {name}(" not in code] == []


def _anchors(page: os.PathLike[str]) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    text = _FENCE.sub("", (ROOT / page).read_text("utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_line_is_one_that_we_understand(page: os.PathLike[str]) -> None:
    refused = {}
    for words in find_commands((ROOT / page).read_text("utf-8")):
        fault = find_fault(words)
        if fault:
            refused[" ".join(words)] = fault
    assert refused == {}


def test_every_command_that_a_hint_names_is_one_that_we_understand() -> None:
    refused = {}
    for text in sources.find_messages():
        for words in find_commands(text):
            fault = find_fault(words)
            if fault:
                refused[" ".join(words)] = fault
    assert refused == {}


def find_fault(words: list[str]) -> str | None:
    """Return what is wrong with one of our command lines; None where nothing is."""
    program, *rest = words
    if program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        return next((f"no target {word}" for word in rest[:1] if word not in targets), None)
    if program == "envboot-agent":
        known = read_rows(read_section(REFERENCE, "envboot-agent").partition("| exit")[0])
        names = rest[0].split("|") if rest else []
        return next((f"no command {name}" for name in names if name not in known), None)
    if program == "render-userdata":
        rest = ["render-userdata", *rest]
    if rest[-1:] == ["…"] and len(rest) < 3:
        return None
    try:
        command, context, rest = find_command(rest)
        # In running text a name may stand without its arguments.
        if rest:
            command.parse_args(context, [word for word in rest if word != "…"])
    except click.MissingParameter:
        pass
    except click.exceptions.Exit:
        pass
    except click.UsageError as error:
        return error.format_message()
    return None


@pytest.fixture(scope="module")
def tracked() -> dict[str, str]:
    """The text files of the repository."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this is no git checkout")
    names = [name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    return {name: (ROOT / name).read_text("utf-8", errors="replace") for name in names}


@pytest.mark.subprocess
def test_no_file_tells_of_the_machine_or_the_making(tracked: dict[str, str]) -> None:
    machine = {str(ROOT), *find_hosts()}
    found = {
        f"{name}: {word}"
        for name, text in tracked.items()
        for word in (*WORDS, *machine)
        if re.search(rf"(?<![\w-]){re.escape(word)}", text, re.IGNORECASE)
    }
    assert found == set()


def find_hosts() -> set[str]:
    """Return the hosts of indexes, registries and proxies that this machine is set up with."""
    public = {"pypi.org", "files.pythonhosted.org", "registry.npmjs.org", "localhost", "127.0.0.1"}
    done = subprocess.run(
        ["python3", "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    wanted = re.compile("index|registry|proxy|find.links", re.IGNORECASE)
    lines = [f"{name}={value}" for name, value in os.environ.items() if wanted.search(name)]
    lines += [line for line in done.stdout.splitlines() if wanted.search(line)]
    hosts = {
        urlsplit(url).hostname for line in lines for url in re.findall(r"\w+://[^\s'\"]+", line)
    }
    return {host for host in hosts if host} - public


def test_no_module_of_bootstrap_hides_one_of_the_standard_library() -> None:
    # Python puts the folder of a script first: then `import select` would find ours.
    ours = {path.stem for path in (ROOT / "bootstrap/envboot").iterdir() if path.stem != "__init__"}
    assert not ours & set(sys.stdlib_module_names)
