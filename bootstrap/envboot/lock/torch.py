"""Which of PyTorch's indexes has the build for a target, from a table of data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from envboot.toml import read_data


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchIndexes:
    """PyTorch's indexes: one folder below `index` for each CUDA version, and one without.

    `cuda` is a folder by the oldest driver that runs its builds. `is_mirror` says that the
    settings name them.
    """

    index: str
    packages: frozenset[str]
    cpu: str
    cuda: dict[str, str]
    is_mirror: bool = False

    def choose(self, name: str, build: str, cuda: str | None) -> str | None:
        """Return the index of a package; None where it is not one of PyTorch's own.

        `build` is what stands behind the version's `+`; without it `cuda` decides.
        """
        folder = build or self.find_folder(cuda)
        is_known = name in self.packages and folder in (self.cpu, *self.cuda.values())
        return f"{self.index}/{folder}" if is_known else None

    def find_folder(self, cuda: str | None) -> str:
        """Return the newest builds that a driver of this version runs."""
        if cuda is None:
            return self.cpu
        known = [version for version in self.cuda if _numbers(version) <= _numbers(cuda)]
        return self.cuda[max(known, key=_numbers)] if known else self.cpu


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


@cache
def read_torch(mirror: str | None = None) -> TorchIndexes:
    """Read `pytorch.toml`; `mirror` stands for PyTorch's own address."""
    document = read_data("pytorch.toml")
    return TorchIndexes(
        index=(mirror or document["index"]).rstrip("/"),
        packages=frozenset(document["packages"]),
        cpu=document["cpu"],
        cuda=dict(document["cuda"]),
        is_mirror=mirror is not None,
    )
