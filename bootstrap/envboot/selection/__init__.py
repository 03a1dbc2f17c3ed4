"""What the user wants of which environment, and for what machines. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from envboot.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which environment, and what of it; every command that makes a manifest takes the same.

    `python` names what is scanned (None: the active environment), `lock_file` is read instead of
    a scan. `ignore` drops packages by name, `only` keeps these and what they need, `add` are
    requirements that this machine cannot install. `platform` (None: as this machine) and `cuda`
    (`12.4`; None: no GPU) describe the machines. Without `loose`, code that belongs to no
    distribution stays here. `strict` refuses whatever differs from what is installed.
    """

    python: str | None = None
    lock_file: Path | None = None
    ignore: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    platform: str | None = None
    cuda: str | None = None
    loose: bool = True
    strict: bool = False

    def placed(self, platform: str | None) -> Selection:
        """Return the same for machines of one platform; None leaves the choice to the user.

        Raises:
            UsageError: the user wants another one.
        """
        if platform is None:
            return self
        if self.platform not in (None, platform):
            raise UsageError(
                f"Cannot make machines of `{self.platform}`: those that were asked for are "
                f"`{platform}`",
                hint="Leave `--platform` out, or ask for other machines",
            )
        return replace(self, platform=platform)

    def kept(self, python: str | None, folder: Path) -> dict[str, Any]:
        """Return what is set, as JSON takes it, with paths as seen from `folder` made absolute.

        `python` is the interpreter that was meant.
        """
        file = str(self.lock_file) if self.lock_file else None
        if self.lock_file and (folder / self.lock_file).exists():
            # What is no file is the name of a published environment.
            file = str(folder / self.lock_file)
        document = {**asdict(self), "python": python, "lock_file": file}
        return {name: value for name, value in document.items() if value not in (None, ())}

    def over(self, kept: Mapping[str, Any]) -> Selection:
        """Return the same, with what was `kept` of an earlier one where nothing is set here."""
        from pathlib import Path

        mine = {field.name: getattr(self, field.name) for field in fields(self)}
        found = dict(kept)
        if self.lock_file:
            # What there is of an environment's packages says nothing of a lock file's.
            found = {k: v for k, v in found.items() if k not in ("ignore", "only", "add")}
        elif self.ignore or self.only or self.add:
            found.pop("lock_file", None)
        if "lock_file" in found:
            found["lock_file"] = Path(found["lock_file"])
        for name in ("ignore", "only", "add"):
            found[name] = tuple(found.get(name, ()))
        merged = {name: value or found.get(name, value) for name, value in mine.items()}
        return Selection(**{**merged, "loose": self.loose and found.get("loose", True)})
