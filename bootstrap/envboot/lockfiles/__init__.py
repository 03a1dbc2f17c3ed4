"""Lock files instead of a scan: what other tools have locked becomes a base and its layer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from envboot.errors import LockError
from envboot.files import read_document
from envboot.lockfiles.formats import Format, decode, find_format, split_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from envboot.lock import Locked
    from envboot.lock.target import Target
    from envboot.lockfiles.content import Content, LockFileRequest
    from envboot.scan.schema import Interpreter
    from envboot.session import Session

_READERS = {
    Format.PYLOCK: ("pylock", "read_pylock"),
    Format.UV: ("uv_lock", "read_uv_lock"),
    Format.PIXI: ("pixi_lock", "read_pixi"),
    Format.CONDA_LOCK: ("conda_lock", "read_conda_lock"),
    Format.EXPLICIT: ("conda_lock", "read_explicit"),
    Format.REQUIREMENTS: ("requirements_txt", "read_requirements"),
    Format.ENVIRONMENT: ("environment_yml", "read_environment"),
}


def read_lock_file(
    given: Path,
    session: Session,
    *,
    interpreter: Interpreter,
    target: Target,
    fresh: bool = False,
) -> Locked:
    """Read `FILE` or `FILE#NAME,NAME` for the target; its format is told by its content.

    `interpreter` is the active one: it decides where the file leaves Python open. What has to
    be looked up or solved is kept in the cache for 24 hours; `fresh` asks again.

    Raises:
        LockError: it cannot be read, is malformed, not for the target, or names packages
            without file or hash.
    """
    from envboot.lockfiles.content import LockFileRequest, refuse

    file, names = split_names(given, session.folder)
    try:
        text = decode(read_document(session.folder / file))
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        hint = f"`envboot env show {file} --manifest` prints a published environment"
        raise LockError(
            f"Cannot read lock file `{file}`",
            causes=(cause,),
            hint=hint if "@" in file.name else None,
        ) from error
    request = LockFileRequest(
        file=session.folder / file,
        text=text,
        names=names,
        interpreter=interpreter,
        target=target,
        session=session,
        fresh=fresh,
    )
    read = _find_reader(find_format(file, text))
    try:
        return _lock(read(request), request)
    except ValueError as error:
        # Such as of `urlsplit`, for what is no URL.
        refuse(request, f"Found a malformed value: {error}")


def _find_reader(kind: Format) -> Callable[[LockFileRequest], Content]:
    """Return the reader of a format; it is imported only when it is asked for."""
    module, function = _READERS[kind]
    reader: Callable[[LockFileRequest], Content] = getattr(
        import_module(f"envboot.lockfiles.{module}"), function
    )
    return reader


def _lock(content: Content, request: LockFileRequest) -> Locked:
    """Choose the files, and bring an interpreter where the file has none."""
    from envboot.lock import assemble
    from envboot.lock.answer import Answer
    from envboot.lock.comparison import compare_all
    from envboot.lock.exact import solve_interpreter
    from envboot.lockfiles.choose import choose_files

    target, session, python = request.target, request.session, content.python
    found = choose_files(content, request)
    conda = content.conda
    if python.source == "conda" and not conda:
        conda = solve_interpreter(python, target, session, fresh=request.fresh)
    wheels = {wheel.name: wheel.version for wheel in found.wheels}
    layer = {source.name: source.version for source in found.sources}
    there = {package.named.name: package.named.version for package in conda}
    here = {"python": python.version} if conda and not content.conda else there
    answer = Answer(
        python=python,
        conda=conda,
        found=found,
        rows=(
            *compare_all("conda", here, there, {}, "comes with the interpreter"),
            *compare_all("pypi", wheels, wheels, {}, ""),
            *compare_all("layer", layer, layer, {}, ""),
        ),
        notes=content.notes,
    )
    return assemble(answer, (), session, target=target)
