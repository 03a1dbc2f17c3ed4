"""`uv.lock`, read by uv."""

from __future__ import annotations

from dataclasses import replace

from envboot import process
from envboot.documents import find_table
from envboot.indexes.program import find_uv
from envboot.lockfiles.compile import QUIET, read_output
from envboot.lockfiles.content import Content, LockFileRequest, refuse, refuse_names
from envboot.lockfiles.pylock import parse_toml, read_pylock


def read_uv_lock(request: LockFileRequest) -> Content:
    """Read the project's default groups, and the groups and extras that are named.

    uv itself turns its lock into PEP 751, without a look at the network; for that it needs
    the `pyproject.toml` beside it.
    """
    parse_toml(request, request.text)
    project = request.file.with_name("pyproject.toml")
    if request.file.name != "uv.lock" or not project.is_file():
        refuse(
            request,
            f"Expected `uv.lock` beside its project, found no `{project}`"
            if request.file.name == "uv.lock"
            else f"Expected the name `uv.lock`, found `{request.file.name}`",
            hint="Keep it in the project, or export it there with "
            "`uv export --format pylock.toml -o pylock.toml`",
        )
    extras, groups = _find_names(request)
    unknown = [name for name in request.names if name not in (*extras, *groups)]
    if unknown:
        refuse_names(request, unknown, [*extras, *groups])
    options = [f"--group={name}" for name in request.names if name in groups]
    options += [f"--extra={name}" for name in request.names if name in extras]
    done = process.run(
        [find_uv(), "export", "--frozen", "--format", "pylock.toml", *options, *QUIET],
        environment=request.session.environment,
        folder=request.file.parent,
    )
    text = read_output(done, request.file)
    return read_pylock(replace(request, text=text, names=()))


def _find_names(request: LockFileRequest) -> tuple[list[str], list[str]]:
    """Return the extras and groups of the project beside the lock."""
    project = request.file.with_name("pyproject.toml")
    document = parse_toml(replace(request, file=project), project.read_text("utf-8"))
    groups = [*find_table(document, "dependency-groups")]
    groups += ["dev"] if "dev-dependencies" in find_table(document, "tool", "uv") else []
    return [*find_table(document, "project", "optional-dependencies")], groups
