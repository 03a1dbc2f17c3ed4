"""uv's `pip compile`, on the user's indexes, for one target."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envboot.errors import LISTED, LockError
from envboot.indexes import Indexes, open_indexes
from envboot.indexes.configuration import PYPI_HOST, Index
from envboot.indexes.program import find_uv
from envboot.lock.fit import NoSolution
from envboot.lock.tags import name_platform, rank_tags
from envboot.lock.torch import TorchIndexes, read_torch
from envboot.toml import tomllib

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from envboot.lock.request import LockRequest
    from envboot.lock.target import Target

Packages = dict[str, dict[str, Any]]
"""PEP 751's packages by name."""

_NO_SOLUTION = "No solution found"
_PROJECT = "envboot-request"


@dataclass(frozen=True, kw_only=True, slots=True)
class Lookup:
    """Indexes to ask, and for which machines; `python` is the interpreter that builds sdists.

    What is in `shared` is built with that interpreter's packages: to see what an sdist needs, uv
    may have to run its build.
    """

    indexes: Indexes
    target: Target
    version: str
    python: str
    torch: TorchIndexes
    shared: tuple[str, ...] = ()

    def find_own_torch(self, name: str, build: str) -> Index | None:
        """Return the configured index, PyPI aside, that has a build (`cu126`) of a package.

        A mirror that the settings name comes before it.
        """
        if self.torch.is_mirror or not build:
            return None
        for index in self.indexes.ordinary:
            if urlsplit(index.url).hostname != PYPI_HOST:
                wheels = self.indexes.list_wheels(name, [index])
                if any(wheel.version.local == build for wheel in wheels):
                    return index
        return None

    @property
    def ranks(self) -> dict[str, int]:
        """The wheel tags that the target runs, 0 the best."""
        return rank_tags(self.target.platform, self.target.glibc, self.version)

    def find_exact(self, pins: Sequence[str], *, sdists: bool = False) -> Packages | NoSolution:
        """Look up exactly these packages, and nothing that they need."""
        return self._ask(pins, ["--no-deps", *_binary(sdists=sdists)], solving=False)

    def solve(
        self,
        requirements: Sequence[str],
        *,
        prefer: Mapping[str, str],
        exclude: Collection[str] = (),
        constraints: Collection[str] = (),
    ) -> Packages | NoSolution:
        """Solve for requirements; versions to `prefer` are taken wherever they fit.

        What is in `exclude` comes from elsewhere. An sdist is taken where there is no solution
        of wheels alone: uv may run its build to learn what it needs.
        """
        with tempfile.TemporaryDirectory(prefix="envboot-") as folder:
            places = {name: Path(folder, f"{name}.txt") for name in ("excludes", "constraints")}
            places["excludes"].write_text("\n".join(exclude))
            places["constraints"].write_text("\n".join(constraints))
            options = [f"--{name}={place}" for name, place in places.items()]
            found = self._ask(requirements, [*options, *_binary(sdists=False)], prefer=prefer)
            if isinstance(found, NoSolution) and _wants_wheel(found.words):
                found = self._ask(requirements, options, prefer=prefer)
        return found

    def _ask(
        self,
        requirements: Sequence[str],
        options: Sequence[str],
        *,
        prefer: Mapping[str, str] | None = None,
        solving: bool = True,
    ) -> Packages | NoSolution:
        """Run `uv pip compile`.

        Raises:
            LockError: it failed for another reason than that there is no solution.
        """
        target = self.target
        with tempfile.TemporaryDirectory(prefix="envboot-") as folder:
            # uv prefers the versions that its output names already.
            output = Path(folder, "pylock.toml")
            if prefer:
                output.write_text(_render_preferences(prefer))
            command = [find_uv(), "pip", "compile", "--quiet", "--color", "never", *options]
            command += ["--format", "pylock.toml", "--no-header", "--output-file", str(output)]
            command += ["--python", self.python, "--python-version", self.version]
            command += [f"--no-build-isolation-package={name}" for name in self.shared]
            command += ["--python-platform", name_platform(target.platform, target.glibc)]
            indexes = self._with_torch(requirements, solving=solving)
            done = indexes.run_uv(command, requirements)
            if done.code == 0:
                document = tomllib.loads(output.read_text("utf-8"))
                return {package["name"]: package for package in document.get("packages", ())}
        # What a project depends on is what was asked for here.
        said = done.errors.replace(f"{_PROJECT} depends on", "you require")
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        if _NO_SOLUTION not in said and not _wants_wheel(said):
            raise LockError(
                "Failed to look up packages with uv",
                causes=tuple(
                    line.removeprefix("error: ").removeprefix("cause: ") for line in lines[:LISTED]
                ),
                hint="Check the network and the indexes in uv's and pip's configuration",
            )
        cause = next((line for line in lines if line.startswith(("cause:", "╰─▶"))), lines[-1])
        return NoSolution(words=cause.removeprefix("cause:").removeprefix("╰─▶").strip())

    def _with_torch(self, requirements: Sequence[str], *, solving: bool) -> Indexes:
        """Send PyTorch's own packages to an index that has the build.

        The one that uv's settings name for them, else a configured one that has it, else PyTorch's.
        """
        configuration = self.indexes.configuration
        urls: dict[str, Index] = {}
        for text in requirements:
            found = Requirement(text)
            name = canonicalize_name(found.name)
            build = str(found.specifier).partition("+")[2]
            if found.url or name in configuration.sources or not (build or solving):
                continue
            url = self.torch.choose(name, build, self.target.cuda)
            if url:
                own = self.find_own_torch(name, url.rpartition("/")[2])
                urls[name] = own or Index(url=url)
        if not urls:
            return self.indexes
        places = {index.url: index for index in urls.values()}
        called = {url: f"pytorch-{number}" for number, url in enumerate(sorted(places))}
        added = [
            replace(places[url], name=name, explicit=True, default=False)
            for url, name in called.items()
        ]
        sources = {name: [{"index": called[index.url]}] for name, index in urls.items()}
        return replace(
            self.indexes,
            configuration=replace(
                configuration,
                indexes=(*configuration.indexes, *added),
                sources={**configuration.sources, **sources},
            ),
        )


def open_lookup(request: LockRequest, version: str) -> Lookup:
    """Read where to look for a request's packages, for machines with that Python.

    Raises:
        LockError: naming every index that refuses the login, or has none.
    """
    here, items = request.scan.interpreter, request.from_indexes
    names = [*(item.name for item in items), *(Requirement(text).name for text in request.add)]
    indexes = open_indexes(
        request.session.environment,
        request.session.folder,
        prefix=Path(here.prefix),
        pip=any(item.installer == "pip" for item in items),
        pip_first=all(item.installer == "pip" for item in items),
        probe=names[0],
    )
    return Lookup(
        indexes=indexes,
        target=request.target,
        version=version,
        # A scan may have been made on another machine.
        python=here.executable if Path(here.executable).exists() else sys.executable,
        torch=read_torch(request.session.settings.torch_index),
        shared=request.session.settings.no_build_isolation,
    )


def _binary(*, sdists: bool) -> list[str]:
    """Return the options that keep any project's code from running here."""
    return [] if sdists else ["--only-binary", ":all:"]


def _wants_wheel(words: str) -> bool:
    return "no usable wheels" in words or "no wheels" in words


def _render_preferences(prefer: Mapping[str, str]) -> str:
    lines = ['lock-version = "1.0"', 'created-by = "envboot"']
    for name, version in sorted(prefer.items()):
        lines += ["[[packages]]", f"name = {json.dumps(name)}", f"version = {json.dumps(version)}"]
    return "\n".join(lines) + "\n"
