"""One project to one wheel, built at most once for the same content."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from packaging.utils import canonicalize_name

from envboot import process
from envboot.agent import wire
from envboot.errors import LISTED, LayerError, name_some
from envboot.files import hash_file, write_whole
from envboot.indexes.program import find_uv
from envboot.layer.archives import UnpackError, unpack
from envboot.layer.binaries import Binary, find_misfit, find_strangers, read_binary
from envboot.layer.build_failures import explain_failure
from envboot.layer.credential_files import find_credentials
from envboot.layer.git import checkout
from envboot.layer.left_behind import find_lacking
from envboot.layer.links import Links, names_exactly, remove_outward
from envboot.layer.project_files import copy_files, digest_files, list_files
from envboot.layer.stamps import TRIES, refuse_changing, stamp
from envboot.layer.surroundings import digest_surroundings
from envboot.lock.tags import rank_tags, wheel_tags
from envboot.redaction import hide_values, redact, strip_url
from envboot.scan.schema import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envboot.indexes import Indexes
    from envboot.lock.target import Target
    from envboot.scan.schema import Source
    from envboot.session import Session

# Seconds; the first moment that a zip file can name. The same in every build.
EPOCH = "315532800"
# Part of what a kept wheel is named by: change it when the same content gives another wheel.
_FORMAT = 2
_OUT_OF_COMMIT = "Not packaged (links that lead out of the commit):"
_OUT_OF_PROJECT = (
    "Not packaged (links that lead out of the project; name one exactly in `include` to follow it):"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """A source's wheel; `key` names the content that it was made of, `notes` what it relies on."""

    source: Source
    wheel: Path
    key: str
    cached: bool
    notes: tuple[Problem, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Builder:
    """What every build of one layer shares: interpreter, Python version, target and session.

    `beside` is the digest of what is installed for the interpreter, if a project is built without
    isolation. `find_indexes` reads where builds find what they require, once something is built;
    without it uv's own settings alone count. Builds in all threads end once `stop` is set.
    """

    python: str
    version: str
    target: Target
    session: Session
    beside: str | None = None
    find_indexes: Callable[[], Indexes] | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def cache(self) -> Path:
        """The session's cache directory."""
        return self.session.cache

    def is_isolated(self, source: Source) -> bool:
        """Whether a project is built with its own build requirements alone."""
        return canonicalize_name(source.name) not in self.session.settings.no_build_isolation

    def build(self, source: Source) -> Built:
        """Return the wheel of a project: given, kept from an earlier build, or built now.

        Raises:
            LayerError: the source is gone, its build fails, or the target cannot run the wheel.
        """
        built = self._find_or_build(source)
        self._refuse_credentials(built)
        notes = (*built.notes, *self._check(built), *find_lacking(source, built.wheel))
        return replace(built, notes=notes)

    def _find_or_build(self, source: Source) -> Built:
        if source.git:
            if not source.commit:
                raise LayerError(f"Expected the commit of `{source.name}`, found none")
            place = f"{strip_url(source.git)}\0{source.commit}\0{source.subdirectory}"
            key = self._key(source, "git", place)
            checked_out = self._kept(source, key) or self._build_git(source, key)
            removed = _read_removed(checked_out.wheel)
            return replace(checked_out, notes=_note_links(source, _OUT_OF_COMMIT, removed))
        path = Path(source.path or "")
        if path.suffix == ".whl" and path.is_file():
            return Built(source=source, wheel=path, key=hash_file(path), cached=True)
        if path.is_file():
            content = "\0".join(filter(None, (hash_file(path), source.subdirectory)))
            key = self._key(source, "sdist", content)
            return self._kept(source, key) or self._build_archive(source, key, path)
        folder = path / (source.subdirectory or "")
        if not source.path or not folder.is_dir():
            raise LayerError(
                f"Failed to find the project `{source.name}`",
                causes=(f"`{folder}` is not there",),
                hint=f"Uninstall it with `pip uninstall {source.name}`, or bring the folder back",
            )
        before: dict[str, tuple[int, ...]] = {}
        for _ in range(TRIES):
            built, before = self._build_folder(source, folder)
            if built:
                return built
        raise refuse_changing(f"`{source.name}`", before)

    def _build_folder(
        self, source: Source, folder: Path
    ) -> tuple[Built | None, dict[str, tuple[int, ...]]]:
        """Build a project that lies here; None if its files changed while they were copied.

        The second value is how they were before.
        """
        environment = self.session.environment
        links = Links(folder, environment, self.session.settings.include)
        entries, left = links.settle(list_files(folder, environment))
        before = stamp(each.source or folder / each.path for each in entries if each.link is None)
        around = digest_surroundings(folder, environment)
        key = self._key(source, "folder", f"{digest_files(folder, entries)} {around}")
        # Beside more files than can be looked at, any may have changed.
        built = self._kept(source, key) if around is not None else None
        if not built:
            with self._scratch() as scratch:
                tree = copy_files(folder, entries, Path(scratch, "tree"), environment)
                if stamp(before) != before:
                    return None, before
                built = self._build(source, key, tree)
        outside = [each.path for each in left if each.outside]
        return replace(built, notes=_note_links(source, _OUT_OF_PROJECT, outside)), before

    def _build_archive(self, source: Source, key: str, path: Path) -> Built:
        with self._scratch() as scratch:
            try:
                tree = unpack(path, Path(scratch, "tree"))
            except UnpackError as error:
                raise LayerError(
                    f"Cannot build `{source.name}` from `{path}`",
                    causes=(f"Expected a folder, a wheel or an archive of a project: {error}",),
                ) from error
            folder = tree / (source.subdirectory or "")
            if not folder.resolve().is_relative_to(tree.resolve()) or not folder.is_dir():
                raise LayerError(f"Cannot find `{source.subdirectory}` in `{path}`")
            return self._build(source, key, folder)

    def _build_git(self, source: Source, key: str) -> Built:
        with self._scratch() as scratch:
            tree = Path(scratch, "tree")
            checkout(source.git or "", source.commit or "", self.session, tree, stop=self.stop)
            removed = remove_outward(tree)
            folder = tree / (source.subdirectory or "")
            if not folder.is_dir():
                where = strip_url(source.git or "")
                raise LayerError(
                    f"Cannot find `{source.subdirectory}` in `{where}` at `{source.commit}`"
                )
            built = self._build(source, key, folder)
        if removed:
            # The next launch, which builds nothing, names them too.
            write_whole(_removed_beside(built.wheel), json.dumps(removed).encode())
        return built

    def _key(self, source: Source, kind: str, content: str) -> str:
        """Name a build by everything that decides its outcome."""
        from importlib.metadata import version

        question = {
            "format": _FORMAT,
            "kind": kind,
            "content": content,
            "version": source.version,
            "uv": version("uv"),
            "python": ".".join(self.version.split(".")[:2]),
            "platform": self.target.platform,
            "beside": None if self.is_isolated(source) else self.beside,
        }
        return wire.digest("wheel", question).partition(":")[2]

    def _kept(self, source: Source, key: str) -> Built | None:
        wheels = sorted((self.cache / "wheels" / key).glob("*.whl"))
        return Built(source=source, wheel=wheels[0], key=key, cached=True) if wheels else None

    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        folder = self.cache / "build"
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=folder)

    def _build(self, source: Source, key: str, origin: Path) -> Built:
        """Run the project's PEP 517 backend and keep the wheel under `key`."""
        with self._scratch() as scratch:
            output = Path(scratch, "wheel")
            log = self.cache / "logs" / f"{canonicalize_name(source.name)}-{key[:12]}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            # Logs show what the user's build prints: for their eyes only.
            raw = Path(scratch, "log")
            with open(raw, "wb") as stream:
                code = self._run_backend(source, origin, output, stream)
            words = raw.read_text("utf-8", errors="replace")
            said = redact(hide_values(words, self.session.environment))
            with open(
                os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
            ) as stream:
                stream.write(said)
            wheels = sorted(output.glob("*.whl"))
            if code or not wheels:
                raise explain_failure(source, said, log, isolated=self.is_isolated(source))
            folder = self.cache / "wheels" / key
            folder.parent.mkdir(parents=True, exist_ok=True)
            for other in output.iterdir():
                if other != wheels[0]:
                    other.unlink()
            _replace(output, folder)
        return Built(source=source, wheel=folder / wheels[0].name, key=key, cached=False)

    def _run_backend(self, source: Source, origin: Path, output: Path, log: IO[bytes]) -> int:
        environment = {
            name: value
            for name, value in self.session.environment.items()
            if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")
        }
        variables = {
            # Looking at the user's repository must not touch its index.
            "GIT_OPTIONAL_LOCKS": "0",
            "PYTHONHASHSEED": "0",
            "SOURCE_DATE_EPOCH": EPOCH,
        }
        if source.version:
            # Versions derived from tags would carry today's date once anything is changed. Lock
            # files may leave the version open.
            variables |= {
                "SETUPTOOLS_SCM_PRETEND_VERSION": source.version,
                "PDM_BUILD_SCM_VERSION": source.version,
                "POETRY_DYNAMIC_VERSIONING_BYPASS": source.version,
            }
        command = [find_uv(), "build", "--wheel", "--color", "never", "--no-progress"]
        command += ["--python", self.python, "--out-dir", os.fspath(output)]
        if not self.is_isolated(source):
            command.append("--no-build-isolation")
            # Compilers' front ends, such as ninja and cmake, are programs of the environment.
            programs = os.path.dirname(self.python)  # noqa: PTH120
            environment["PATH"] = f"{programs}{os.pathsep}{environment.get('PATH', os.defpath)}"
        if self.find_indexes:
            options, more = self.find_indexes().render_options()
            command += options
            variables |= more
        command.append(os.fspath(origin))
        running = process.start(
            command,
            environment=environment,
            folder=origin if origin.is_dir() else origin.parent,
            variables=variables,
            log=log,
        )
        return running.finish(stop=self.stop).code

    def _refuse_credentials(self, built: Built) -> None:
        """Refuse a wheel of the user's with files that loose code would not bring.

        What an index has is public, or its own affair.
        """
        path = built.source.path
        if path and Path(path).is_relative_to(self.cache):
            return
        include = self.session.settings.include
        found = [name for name in find_credentials(built.wheel) if not names_exactly(include, name)]
        if found:
            named = ", ".join(f'"{name}"' for name in found[:LISTED])
            raise LayerError(
                f"Cannot send the wheel of `{built.source.name}`: it contains credential files",
                causes=(f"Found {name_some(found)}",),
                hint="Keep them out of the package, in its build configuration, or send them with "
                f"`include = [{named}]` in `[tool.envboot]`",
            )

    def _check(self, built: Built) -> tuple[Problem, ...]:
        """Refuse a wheel that the target cannot run, by its tags and by the binaries in it.

        Returns what cannot be told from here: libraries that the machines must have.
        """
        name, target = built.wheel.name, self.target
        ranks = rank_tags(target.platform, target.glibc, self.version)
        if not any(tag in ranks for tag in wheel_tags(name)):
            raise LayerError(
                f"Cannot run `{name}` on `{target.platform}` "
                f"with Python {self.version} and glibc {target.glibc}",
                hint=_way_out(built.source.name, target),
            )
        # On this machine itself, what was built here runs.
        if target.host_python:
            return ()
        binaries = _read_binaries(built.wheel)
        misfit = find_misfit(binaries, target)
        if misfit:
            hint = _way_out(built.source.name, target)
            if misfit.glibc:
                hint = f'Set `glibc = "2.{misfit.glibc}"` in `[tool.envboot]` if the guests have it'
            raise LayerError(
                f"Cannot run `{name}` on `{target.platform}`: {misfit.message}", hint=hint
            )
        brought = {binary.path.rpartition("/")[2] for binary in binaries}
        return tuple(
            Problem(
                subject=built.source.name,
                message=f"Needs `{library}` ({name_some(sorted(users))}), which nothing brings: "
                "the machines must have it",
            )
            for library, users in sorted(find_strangers(binaries, brought).items())
            # A conda environment brings more than Python.
            if not (Path(self.python).parent.parent / "lib" / library).exists()
        )


def _replace(output: Path, folder: Path) -> None:
    """Move a built wheel into the cache, in place of one that is there: its inputs were not known.

    Somebody else may do the same meanwhile.
    """
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
    try:
        output.rename(folder)
    except OSError:
        if not any(folder.glob("*.whl")):
            raise


def _way_out(name: str, target: Target) -> str:
    return (
        f"Install `{name}` from an index that has a wheel for `{target.platform}`, leave it out "
        f"with `--ignore {name}`, or run envboot on a `{target.platform}` machine"
    )


def _note_links(source: Source, text: str, paths: Sequence[str]) -> tuple[Problem, ...]:
    if not paths:
        return ()
    some = name_some(sorted(paths), most=len(paths))
    return (Problem(subject=source.name, message=f"{text} {some}"),)


def _removed_beside(wheel: Path) -> Path:
    return wheel.with_name("removed-links.json")


def _read_removed(wheel: Path) -> list[str]:
    try:
        removed: list[str] = json.loads(_removed_beside(wheel).read_bytes())
    except (OSError, ValueError):
        return []
    return removed


def _read_binaries(wheel: Path) -> list[Binary]:
    with zipfile.ZipFile(wheel) as archive:
        read = (
            read_binary(member.filename, archive.read(member))
            for member in archive.infolist()
            if member.file_size > 4
        )
        return [binary for binary in read if binary]
