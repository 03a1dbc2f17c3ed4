"""What a build without isolation can read beside its project: the packages of an environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from envboot.agent import wire
from envboot.layer.links import Links
from envboot.layer.project_files import digest_files, list_files
from envboot.scan import scan
from envboot.scan.projects import find_sources

if TYPE_CHECKING:
    from envboot.session import Session


def digest_environment(python: str, session: Session) -> str:
    """Return a digest of the packages that `python` imports: other ones may build another wheel.

    Projects that are installed editable count by the content of their files.

    Raises:
        ScanError: the interpreter cannot be asked.
    """
    environment = session.environment
    found = scan(python, environment=environment, folder=session.folder, loose=False)
    projects = {}
    for source in find_sources(found):
        folder = Path(source.path or "", source.subdirectory or "")
        if source.editable and source.path and folder.is_dir():
            links = Links(folder, environment, session.settings.include)
            entries, _ = links.settle(list_files(folder, environment))
            projects[source.name] = digest_files(folder, entries)
    question = {
        "python": found.interpreter.version,
        "conda": sorted(f"{each.name}={each.version}={each.build}" for each in found.conda),
        "distributions": sorted(f"{each.name}=={each.version}" for each in found.distributions),
        "projects": projects,
    }
    return wire.digest("build-environment", question)
