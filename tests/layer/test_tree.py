"""The layer's tree: what a guest finds after unpacking it, and that it is the same each time."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot.agent.pack import LAYER_LIST
from envboot.layer import build_parts, pack_parts
from envboot.layer.tree import compile_tree
from envboot.lock.target import Target
from envboot.manifest import PREFIX, Base, Layer, Manifest, Python
from envboot.scan.schema import Source
from tests.index import make_wheel
from tests.layer.projects import GUEST, HOST, MINOR, SITE, build, commit_all, unpack, write_project
from tests.scan.environments import find_pythons, install, make_venv
from tests.sessions import make_session

if TYPE_CHECKING:
    from envboot.layer import BuiltLayer

pytestmark = pytest.mark.subprocess
MAIN = {"demo/__init__.py": "import sys\n\ndef main():\n    print(sys.executable)\n"}
RAW = {"scripts/raw": "#!python\nimport sys\nprint(sys.argv[1:])\n"}


def write_scripts(folder: Path) -> Source:
    return write_project(folder, files=MAIN, scripts={"demo-run": "demo:main"}, tiny={"data": RAW})


def test_nothing_to_build_is_no_layer(cache: Path) -> None:
    session = make_session(cache=cache)
    parts = build_parts([], session, python="none", version="3.11.7", target=GUEST)
    assert pack_parts(parts) is None


def test_scripts_of_a_guest_name_the_prefix(tmp_path: Path, cache: Path) -> None:
    opened = unpack(build(write_scripts(tmp_path / "p"), cache=cache), tmp_path / "out")
    assert opened.read("bin/demo-run").startswith(f"#!{PREFIX}/bin/python\n")
    assert opened.read("bin/raw").startswith(f"#!{PREFIX}/bin/python\n")
    for name in ("demo-run", "raw"):
        assert (opened.root / "bin" / name).stat().st_mode & 0o777 == 0o755


def test_scripts_beside_the_hosts_python_run_wherever_they_are(tmp_path: Path, cache: Path) -> None:
    layer = build(write_scripts(tmp_path / "p"), cache=cache, target=HOST)
    opened = unpack(layer, tmp_path / "any folder")
    interpreter = opened.root / "bin" / "python"
    interpreter.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="{opened.root / SITE}"\nexec {sys.executable} "$@"\n'
    )
    interpreter.chmod(0o755)
    link = tmp_path / "link to it"
    link.symlink_to(opened.root / "bin" / "demo-run")
    done = subprocess.run([link], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == sys.executable
    raw = [str(opened.root / "bin" / "raw"), "a b", "c"]
    done = subprocess.run(raw, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['a b', 'c']"
    assert str(tmp_path) not in opened.read("bin/demo-run")


def test_the_installer_is_envboot_and_no_path_of_this_machine_is_told(
    tmp_path: Path, cache: Path
) -> None:
    opened = unpack(build(write_scripts(tmp_path / "p"), cache=cache), tmp_path / "out")
    assert opened.site("demo-1.0.dist-info/INSTALLER") == "envboot\n"
    assert f"{SITE}/demo-1.0.dist-info/direct_url.json" not in opened.paths
    for path in opened.root.rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes(), path


def test_the_layer_lists_every_file_of_its_own_by_which_it_can_be_removed(
    tmp_path: Path, cache: Path
) -> None:
    opened = unpack(build(write_scripts(tmp_path / "p"), cache=cache), tmp_path / "out")
    files = [path for path in opened.root.rglob("*") if path.is_file()]
    assert any(path.suffix == ".pyc" for path in files)
    listed = (opened.root / LAYER_LIST).read_text().splitlines()
    assert listed == sorted(str(path.relative_to(opened.root)) for path in files)


def test_record_lists_every_file_with_its_hash(tmp_path: Path, cache: Path) -> None:
    opened = unpack(build(write_scripts(tmp_path / "p"), cache=cache), tmp_path / "out")
    record = opened.record("demo-1.0")
    found = {
        os.path.relpath(path, opened.root / SITE)
        for path in opened.root.rglob("*")
        if path.is_file() and path != opened.root / LAYER_LIST
    }
    assert set(record) == found
    for path, digest in record.items():
        if path.endswith(("/RECORD", ".pyc")):
            assert digest == ""
            continue
        data = (opened.root / SITE / path).read_bytes()
        encoded = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        assert digest == f"sha256={encoded}"


def test_byte_code_is_used_unchecked_and_knows_the_prefix(tmp_path: Path, cache: Path) -> None:
    source = write_project(tmp_path / "p", files={"demo/__init__.py": "def f():\n    pass\n"})
    opened = unpack(build(source, cache=cache), tmp_path / "out")
    (byte_code,) = (opened.root / SITE / "demo" / "__pycache__").iterdir()
    data = byte_code.read_bytes()
    # PEP 552: bit 0 says "by hash", bit 1 "look at the source"; unchecked is the first alone.
    assert int.from_bytes(data[4:8], "little") == 1
    assert f"{PREFIX}/{SITE}/demo/__init__.py".encode() in data
    assert byte_code.stat().st_mode & 0o777 == 0o644


def test_files_that_are_no_python_do_not_stop_the_layer(tmp_path: Path, cache: Path) -> None:
    files = {"demo/__init__.py": "", "demo/template.py": "print '{{ name }}'\n"}
    opened = unpack(
        build(write_project(tmp_path / "p", files=files), cache=cache), tmp_path / "out"
    )
    assert "{{ name }}" in opened.site("demo/template.py")


def test_data_of_a_wheel_goes_to_the_prefix(tmp_path: Path, cache: Path) -> None:
    tiny = {"data": {"data/share/demo/x.txt": "x\n", "headers/demo.h": "h\n"}}
    source = write_project(tmp_path / "p", "my-demo", tiny=tiny)
    opened = unpack(build(source, cache=cache), tmp_path / "out")
    assert opened.read("share/demo/x.txt") == "x\n"
    # The machine's interpreter is conda's, and the prefix is its own.
    assert opened.read(f"include/python{MINOR}/my-demo/demo.h") == "h\n"
    record = opened.record("my_demo-1.0")
    assert f"../../../include/python{MINOR}/my-demo/demo.h" in record


def test_headers_are_where_uv_puts_them_in_a_venv_here(tmp_path: Path, cache: Path) -> None:
    source = write_project(tmp_path / "p", "My-Demo", tiny={"data": {"headers/sub/demo.h": "h\n"}})
    opened = unpack(build(source, cache=cache, target=HOST), tmp_path / "out")
    place = f"include/site/python{MINOR}/my-demo/sub/demo.h"
    assert opened.read(place) == "h\n"
    (wheel,) = (cache / "wheels").glob("*/*.whl")
    venv = make_venv(tmp_path / "venv")
    install(venv, wheel)
    assert (venv / place).read_text() == "h\n"


def test_a_file_that_two_projects_bring_is_pointed_out(tmp_path: Path, cache: Path) -> None:
    one = write_project(
        tmp_path / "one",
        "one",
        files={"tests/__init__.py": "", "tests/x.py": "1\n"},
        packages=("tests",),
    )
    two = write_project(
        tmp_path / "two",
        "two",
        files={"tests/__init__.py": "", "tests/x.py": "2\n"},
        packages=("tests",),
    )
    layer = build(one, two, cache=cache)
    assert [note.subject for note in layer.notes] == [f"{SITE}/tests/x.py"]
    assert build(one, two, cache=cache).notes == layer.notes


def test_progress_counts_the_projects(tmp_path: Path, cache: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    sources = [write_project(tmp_path / name, name) for name in ("one", "two")]
    build(*sources, cache=cache, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_the_digest_is_of_the_uncompressed_tar(tmp_path: Path, cache: Path) -> None:
    layer = build(write_project(tmp_path / "p"), cache=cache)
    raw = subprocess.run(["zstd", "-dc", str(layer.path)], capture_output=True, check=True).stdout
    assert layer.manifest.digest == f"sha256:{hashlib.sha256(raw).hexdigest()}"
    assert layer.size == layer.path.stat().st_size


def test_an_edit_changes_the_layers_digest_and_no_other(tmp_path: Path, cache: Path) -> None:
    base = Base(
        platform="linux-64",
        python=Python(version="3.11.7", source="conda"),
        virtual_packages={},
        tools={},
    )

    def manifest(layer: Layer) -> Manifest:
        return Manifest(base=base, layer=layer)

    source = write_project(tmp_path / "p")
    before = manifest(build(source, cache=cache).manifest)
    (tmp_path / "p" / "demo" / "more.py").write_text("")
    after = manifest(build(source, cache=cache).manifest)
    assert before.base_digest == after.base_digest
    assert before.environment_digest != after.environment_digest


SETS = "KIND = {'alpha', 'beta', 'gamma', 'delta'}\ndef f(x):\n    return x in {'a', 'b', 'c'}\n"


def write_mixed(folder: Path) -> list[Source]:
    one = write_project(
        folder / "one",
        "one",
        files={"one/__init__.py": SETS, "one/b.py": SETS, "one/run.sh": "#!/bin/sh\n"},
        scripts={"one": "one:f"},
    )
    return [one, write_project(folder / "two", "two", files={"two/__init__.py": SETS})]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> BuiltLayer:
    folder = tmp_path_factory.mktemp("reference")
    return build(*write_mixed(folder), cache=folder / "cache")


def test_the_same_sources_give_the_same_bytes_at_another_place_and_time(
    tmp_path: Path, cache: Path, reference: BuiltLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = write_mixed(tmp_path / "another place")
    for path in tmp_path.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1234567890")
    monkeypatch.setenv("PYTHONHASHSEED", "42")
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    monkeypatch.setenv("LC_ALL", "C")
    layer = build(*reversed(sources), cache=cache)
    assert layer.manifest == reference.manifest
    assert layer.path.read_bytes() == reference.path.read_bytes()


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_same_sources_give_the_same_bytes_under_any_umask(
    tmp_path: Path, cache: Path, reference: BuiltLayer, umask: int
) -> None:
    sources = write_mixed(tmp_path / "p")
    before = os.umask(umask)
    try:
        layer = build(*sources, cache=cache)
    finally:
        os.umask(before)
    assert layer.manifest == reference.manifest


def test_a_rebuild_gives_the_same_bytes_as_the_cache(
    tmp_path: Path, cache: Path, reference: BuiltLayer
) -> None:
    sources = write_mixed(tmp_path / "p")
    build(*sources, cache=cache)
    shutil.rmtree(cache / "layers")
    assert build(*sources, cache=cache).manifest == reference.manifest
    shutil.rmtree(cache)
    layer = build(*sources, cache=cache)
    assert sorted(layer.built) == ["one", "two"]
    assert layer.manifest == reference.manifest


def test_a_checkout_gives_the_same_bytes_as_a_plain_folder(
    tmp_path: Path, cache: Path, reference: BuiltLayer
) -> None:
    sources = write_mixed(tmp_path / "repository")
    commit_all(tmp_path / "repository")
    assert build(*sources, cache=cache).manifest == reference.manifest


def test_the_execute_bit_is_part_of_the_content(tmp_path: Path, cache: Path) -> None:
    counter = tmp_path / "counter"
    source = write_project(tmp_path / "p", tiny={"counter": str(counter)})
    build(source, cache=cache)
    (tmp_path / "p" / "demo" / "__init__.py").chmod(0o755)
    build(source, cache=cache)
    assert counter.read_text() == "demo\ndemo\n"


def test_a_torn_archive_in_the_cache_is_made_again(tmp_path: Path, cache: Path) -> None:
    source = write_project(tmp_path / "p")
    first = build(source, cache=cache)
    whole = first.path.read_bytes()
    first.path.write_bytes(whole[:100])
    assert build(source, cache=cache).path.read_bytes() == whole


def test_another_prefix_is_another_layer(tmp_path: Path, cache: Path) -> None:
    source = write_scripts(tmp_path / "p")
    other = Target(platform="linux-64", glibc="2.28", host_python=False, prefix="/srv/other")
    assert build(source, cache=cache).manifest.digest != (
        build(source, cache=cache, target=other).manifest.digest
    )


def test_a_wheel_that_leaves_its_folder_is_refused(tmp_path: Path, cache: Path) -> None:
    import zipfile

    from envboot.errors import LayerError

    made = make_wheel(tmp_path, "evil")
    with zipfile.ZipFile(made.path, "a") as wheel:
        wheel.writestr("../../../../../../escaped.py", "x = 1\n")
    with pytest.raises(LayerError, match="Failed to install"):
        build(Source(name="evil", version="1.0", path=str(made.path)), cache=cache)
    assert not list(Path(tmp_path).rglob("escaped.py"))


def test_the_kept_layer_names_no_file_of_this_machine(tmp_path: Path, cache: Path) -> None:
    layer = build(write_project(tmp_path / "p"), cache=cache)
    (kept,) = (cache / "layers").glob("*.json")
    assert json.loads(kept.read_text())["digest"] == layer.manifest.digest
    assert str(tmp_path) not in kept.read_text()


@pytest.mark.parametrize("python", find_pythons(8, 13))
def test_byte_code_names_the_place_on_the_machine_for_every_python(
    python: str, tmp_path: Path
) -> None:
    place = tmp_path / "lib" / "a" / "b"
    place.mkdir(parents=True)
    (place / "deep.py").write_text("def where(): pass\n")
    tag = compile_tree(tmp_path, python, PREFIX, dict(os.environ))
    program = (
        "import marshal, sys; code = marshal.loads(open(sys.argv[1], 'rb').read()[16:]); "
        "print(code.co_filename)"
    )
    file = place / "__pycache__" / f"deep.{tag}.pyc"
    done = subprocess.run([python, "-c", program, file], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == f"{PREFIX}/lib/a/b/deep.py"
