"""Native code is looked at before it goes anywhere: in wheels, and in loose code."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from envboot.errors import LayerError
from envboot.lock.target import Target
from envboot.scan.schema import Source
from tests.index import make_wheel
from tests.layer import code
from tests.layer.code import AARCH64, ARM, X86, found, write
from tests.layer.projects import GUEST, HOST, build, write_project

pytestmark = pytest.mark.subprocess


def test_a_binary_that_needs_a_newer_glibc_than_the_guests_is_refused(
    tmp_path: Path, cache: Path
) -> None:
    text = {"demo/fast.so": "GLIBC_2.2.5 GLIBC_2.17 GLIBC_2.34 GLIBC_2.4"}
    source = write_project(tmp_path / "p", tiny={"tag": "py3-none-linux_x86_64", "elf": text})
    with pytest.raises(LayerError, match=r"glibc 2\.34") as caught:
        build(source, cache=cache, target=GUEST)
    assert 'glibc = "2.34"' in (caught.value.hint or "")
    assert build(source, cache=cache, target=HOST).built == ()


@pytest.mark.parametrize(
    ("tiny", "reason"),
    [
        ({"tag": "py3-none-linux_x86_64", "machine": 183}, "is compiled for aarch64"),
        ({"machine": 183}, "is compiled for aarch64"),
        ({"elf": {"demo/fast.so": "libc.musl-x86_64.so.1"}}, "is linked with musl"),
        ({"elf": {"demo/fast.so": "GLIBC_2.34"}}, r"needs glibc 2\.34"),
    ],
    ids=["machine", "machine of a wheel for everywhere", "musl", "glibc of one for everywhere"],
)
def test_a_wheel_whose_binaries_the_target_cannot_run_is_refused_whatever_its_tags_say(
    tmp_path: Path, cache: Path, tiny: dict[str, Any], reason: str
) -> None:
    source = write_project(tmp_path / "p", tiny={"elf": {"demo/fast.so": ""}, **tiny})
    for _ in ("built", "kept"):
        with pytest.raises(LayerError, match=f"`demo/fast.so` {reason}"):
            build(source, cache=cache)
    assert build(source, cache=cache, target=HOST).manifest.projects


def test_a_wheel_file_is_checked_as_one_that_was_built(tmp_path: Path, cache: Path) -> None:
    source = write_project(tmp_path / "p", tiny={"elf": {"demo/fast.so": ""}, "machine": 183})
    layer = build(source, cache=cache, target=HOST)
    assert layer.manifest.projects
    (wheel,) = (cache / "wheels").glob("*/*.whl")
    with pytest.raises(LayerError, match="is compiled for aarch64"):
        build(Source(name="demo", version="1.0", path=str(wheel)), cache=cache)


def test_for_another_machine_pure_wheels_are_built_and_others_refused_with_the_way_out(
    tmp_path: Path, cache: Path
) -> None:
    assert build(write_project(tmp_path / "pure"), cache=cache, target=ARM).built == ("demo",)
    native = write_project(tmp_path / "native", tiny={"elf": {"demo/fast.so": ""}})
    tagged = write_project(tmp_path / "tagged", tiny={"tag": "py3-none-linux_x86_64"})
    for source in (native, tagged):
        refusal = r"Cannot run `demo-1\.0-.*` on `linux-aarch64`"
        with pytest.raises(LayerError, match=refusal) as caught:
            build(source, cache=cache, target=ARM)
        assert "--ignore demo" in (caught.value.hint or "")


def test_a_library_that_nothing_brings_is_pointed_out(tmp_path: Path, cache: Path) -> None:
    # A real extension module, which needs libffi.
    import _ctypes

    made = Path(_ctypes.__file__).read_bytes()
    wheel = make_wheel(tmp_path, "native").path
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("native/_ctypes.so", made)
    target = Target(platform=GUEST.platform, glibc="2.99", host_python=False)
    source = Source(name="native", version="1.0", path=str(wheel))
    (note,) = build(source, cache=cache, target=target).notes
    assert note.subject == "native"
    assert note.message.startswith("Needs `libffi.so")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(f"native.libs/{note.message.split('`')[1]}", made)
    assert not build(source, cache=cache, target=target).notes


def test_an_extension_module_of_another_machine_is_refused_by_name(
    tmp_path: Path, cache: Path
) -> None:
    app = write(
        tmp_path / "app",
        {
            "wrong.so": AARCH64,
            "mac.so": b"\xcf\xfa\xed\xfe" + b"\0" * 32,
            "new.so": X86 + b"GLIBC_2.99",
            "musl.so": X86 + b"libc.musl-x86_64.so.1",
            "right.so": X86 + b"GLIBC_2.17",
        },
    )
    names = ("wrong.so", "mac.so", "new.so", "musl.so", "right.so")
    with pytest.raises(LayerError) as caught:
        code.build(found(app, *names), cache=cache, target=GUEST)
    assert caught.value.causes == (
        "`mac.so` is no Linux binary",
        "`musl.so` is linked with musl, and guests have glibc",
        "`new.so` needs glibc 2.99, and guests may have 2.28",
        "`wrong.so` is compiled for aarch64, and guests are x86_64",
    )
    assert "--no-loose" in (caught.value.hint or "")
    assert code.build(found(app, "right.so"), cache=cache, target=GUEST)
    with pytest.raises(LayerError, match="linux-aarch64"):
        code.build(found(app, "right.so"), cache=cache, target=ARM)


def test_of_several_builds_of_one_module_one_that_runs_is_enough(
    tmp_path: Path, cache: Path
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "fast.cpython-311-x86_64-linux-gnu.so").write_bytes(X86)
    (app / "fast.cpython-311-darwin.so").write_bytes(b"\xcf\xfa\xed\xfe" + b"\0" * 32)
    names = tuple(path.name for path in app.iterdir())
    assert code.build(found(app, *names), cache=cache, target=GUEST)
    with pytest.raises(LayerError, match="linux-aarch64"):
        code.build(found(app, *names), cache=cache, target=ARM)
