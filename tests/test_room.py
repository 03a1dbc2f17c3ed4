"""How much disk an environment may need: exact with an index, never too little without."""

from __future__ import annotations

from dataclasses import replace

from envboot.fleet.disk import LAYER, MB, estimate_disk
from envboot.manifest import Base, CondaPackage, Layer, Manifest, Python, Wheel
from envboot.publish.archive_index import ArchiveIndex

GIB = 1 << 30


INDEX = ArchiveIndex(base="sha256:" + "0" * 64, size=300, raw=1000, files=3, frames=())


def make(*wheels: str, conda: tuple[str, ...] = ()) -> Manifest:
    return Manifest(
        base=Base(
            platform="linux-64",
            python=Python(version="3.11.7", source="conda"),
            virtual_packages={},
            wheels=tuple(Wheel(name=name, version="1", sha256="0" * 64) for name in wheels),
            conda=tuple(
                CondaPackage(url=f"https://conda.test/c/linux-64/{file}", sha256="0" * 64)
                for file in conda
            ),
            tools={},
        )
    )


def test_an_index_tells_exactly_what_is_unpacked_and_packed() -> None:
    assert estimate_disk(make("torch"), INDEX) == 1600


def test_a_layer_has_room_of_its_own() -> None:
    plain = make("six")
    layered = replace(plain, layer=Layer(digest="sha256:" + "0" * 64, projects=()))
    assert estimate_disk(layered, INDEX) - estimate_disk(plain, INDEX) == LAYER
    assert estimate_disk(layered) - estimate_disk(plain) == LAYER


def test_a_small_environment_needs_little_and_one_with_cuda_much() -> None:
    small = estimate_disk(make("numpy", "pandas", "dask", *(f"p{i}" for i in range(30))))
    assert GIB // 2 < small < 2 * GIB
    cuda = [
        f"nvidia-{name}-cu12"
        for name in ("cublas", "cudnn", "cufft", "curand", "cusolver", "cusparse", "nccl")
    ]
    # torch 2.x for CUDA 12 with its libraries is between 5 and 8 GB once it is unpacked.
    assert estimate_disk(make("torch", "triton", *cuda)) > 10 * 10**9


def test_the_longest_beginning_of_a_name_counts() -> None:
    assert estimate_disk(make("nvidia-cublas-cu13")) == estimate_disk(make("nvidia-cublas-cu12"))
    assert estimate_disk(make("nvidia-ml-py")) < estimate_disk(make("nvidia-cublas-cu12"))


def test_conda_packages_are_known_by_their_files() -> None:
    known = estimate_disk(make(conda=("python-3.11.7-h1_0_cpython.conda",)))
    unknown = estimate_disk(make(conda=("some-lib-1.2.3-h1_0.tar.bz2",)))
    assert known == 2 * 150 * MB
    assert unknown == 2 * 8 * MB
