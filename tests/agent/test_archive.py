"""Archives: what goes in comes out, the same bytes each time, in frames that stand alone."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envboot.agent import pack, tar, unpack, wire, zstd
from envboot.store.local.store import LocalStore
from tests.agent.trees import copy_in_disorder, make_folder, snapshot, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BASE = "sha256:" + "0" * 64
CUT, FULL = pack.CUT, pack.FULL


@functools.cache
def noise(size: int) -> bytes:
    """Bytes of which half compress."""
    return random.Random(size).randbytes(size // 2) + b"x" * (size - size // 2)


def make_hard(tree: Path) -> None:
    """Everything that an environment may hold, and some that none does."""
    for size in (0, 1, 511, 512, 513, FULL, CUT, CUT + 1):
        write(tree, f"sizes/{size}", noise(size))
    write(tree, "sizes/large read-only", noise(2 * CUT + 5), 0o444)
    write(tree, "sizes/large program", noise(CUT + 512), 0o755)
    for mode in (0o444, 0o400, 0o600, 0o644, 0o640, 0o664, 0o666, 0o755, 0o555, 0o775, 0o777):
        write(tree, f"modes/{mode:o}", b"%o" % mode, mode)
    for mode in (0o700, 0o755, 0o775, 0o777, 0o1777, 0o555):
        make_folder(tree, f"folders/empty {mode:o}", mode)
        write(tree, f"folders/full {mode:o}/file", b"content")
        make_folder(tree, f"folders/full {mode:o}", mode)
    write(tree, "n" * 100, b"a hundred")
    write(tree, "n" * 101, b"and one")
    write(tree, "/".join(["deep" * 20] * 12) + "/file", b"deep")
    write(tree, "names/ein Grüß Gott ☃", "ü".encode())
    write(tree, "names/not text \udcff\udcfe", b"bytes")
    write(tree, "names/new\nline", b"two")
    write(tree, "names/ leading and trailing ", b"spaces")
    write(tree, "names/-rf", b"dash")
    write(tree, "names/...", b"dots")
    make_folder(tree, "names/folder \udcff", 0o750)
    links = tree / "links"
    links.mkdir()
    (links / "file").symlink_to("../modes/644")
    (links / "folder").symlink_to("../modes")
    (links / "dangling").symlink_to("../nowhere/at all")
    (links / "long").symlink_to("../" + "l" * 200)
    (links / "exactly a hundred").symlink_to("l" * 100)
    (links / ("n" * 150)).symlink_to("m" * 150)
    (links / "undecodable").symlink_to("not text \udcff")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree") / "tree"
    make_hard(folder)
    return folder


@pytest.fixture(scope="module")
def packed(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The hard tree's archive, and its index after a journey as JSON."""
    output = tmp_path_factory.mktemp("packed") / "env.tar.zst"
    index = pack.write_archive(str(tree), str(output), BASE, level=1)
    return output, json.loads(json.dumps(index))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """Return `serve(file)`: put a file into a bucket and sign a URL that reads it."""
    with LocalStore(f"file://{tmp_path}/bucket") as store:

        def put(file: Path) -> str:
            store.create(file.name, file)
            return store.sign_get(file.name, 600)

        yield put


def rows(index: dict[str, Any]) -> list[tuple[int, int, int, str, str]]:
    return [tuple(row[:5]) for row in index["frames"]]


@pytest.mark.subprocess
@pytest.mark.sockets
@pytest.mark.parametrize("processes", [1, 5])
def test_a_tree_comes_out_as_it_went_in(
    tree: Path,
    packed: tuple[Path, dict[str, Any]],
    serve: Callable[[Path], str],
    tmp_path: Path,
    processes: int,
) -> None:
    output, index = packed
    received: list[int] = []
    unpack.check_index(index, BASE)
    url = serve(output)
    out = str(tmp_path / "out")
    unpack.unpack_archive(url, index, out, received.append, processes=processes)
    assert snapshot(tmp_path / "out") == snapshot(tree)
    assert sum(received) == output.stat().st_size == index["size"]
    files = [kind for kind, _, _ in snapshot(tree).values() if kind == "file"]
    assert index["files"] == len(files)


@pytest.mark.subprocess
def test_tar_opens_an_archive_by_hand(
    tree: Path, packed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    command = ["tar", "--zstd", "-xpf", str(packed[0]), "-C", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr
    assert snapshot(tmp_path) == snapshot(tree)


@pytest.mark.subprocess
@pytest.mark.parametrize("size", [0, 1, 8**11 - 1, 8**11, 9 << 30, 8**12 - 1])
def test_files_of_eight_gibibytes_and_more_are_what_tar_reads(size: int, tmp_path: Path) -> None:
    block = pack.header("data.bin", tar.FILE, 0o644, size)
    assert len(block) == tar.BLOCK
    assert tarfile.TarInfo.frombuf(block, "utf-8", "strict").size == size
    ((path, _, _, found, _, _),) = tar.read(memoryview(block))
    assert (path, found) == ("data.bin", size)
    (tmp_path / "one.tar").write_bytes(block)
    listed = subprocess.run(["tar", "-tvf", tmp_path / "one.tar"], capture_output=True, text=True)
    assert f" {size} " in listed.stdout


def test_a_file_that_no_tar_takes_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(8**12)
    with pytest.raises(OSError, match="huge has 68719476736 bytes, a tar file takes 64 GiB"):
        pack.write_archive(str(tmp_path), str(tmp_path / "out"), "sha256:0")


@pytest.mark.subprocess
def test_frames_one_by_one_and_all_at_once_are_what_the_zstd_command_reads(
    packed: tuple[Path, dict[str, Any]],
) -> None:
    output, index = packed
    data = output.read_bytes()
    whole = b"".join(bytes(zstd.decode(data[r[0] : r[0] + r[1]], r[2])) for r in index["frames"])
    assert len(whole) == index["raw"]
    assert b"".join(map(bytes, zstd.decode_all(data))) == whole
    done = subprocess.run(["zstd", "-dqc", str(output)], capture_output=True, check=True)
    assert done.stdout == whole


@pytest.mark.subprocess
def test_the_zstd_command_alone_packs_and_opens_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise(100_000)
    with monkeypatch.context() as without:
        without.setattr(zstd, "lib", None)
        frame = pack.compress(data, 3)
        assert bytes(zstd.decode(frame, len(data))) == data
        assert b"".join(zstd.decode_all(frame)) == data
        # What a frame has too much is not even read.
        with pytest.raises(wire.AgentError, match="zstd: a frame holds 1001 bytes, not 1000"):
            zstd.decode(frame, 1000)
    assert bytes(zstd.decode(frame, len(data))) == data


def test_frames_are_contiguous_and_stand_alone(packed: tuple[Path, dict[str, Any]]) -> None:
    output, index = packed
    data = output.read_bytes()
    assert index["frames"][0][0] == 0
    assert all(a[0] + a[1] == b[0] for a, b in pairwise(index["frames"]))
    assert sum(row[1] for row in index["frames"]) == index["size"] == len(data)
    for offset, size, raw, sha256, *_ in index["frames"]:
        frame = data[offset : offset + size]
        assert hashlib.sha256(frame).hexdigest() == sha256
        assert len(zstd.decode(frame, raw)) == raw
    cut = [row[5:] for row in index["frames"] if row[5:]]
    assert [(path, at, size) for path, at, size, _ in cut if "read-only" in path] == [
        ("sizes/large read-only", CUT, CUT),
        ("sizes/large read-only", 2 * CUT, 5),
    ]


@pytest.mark.subprocess
@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_the_same_tree_gives_the_same_bytes(
    tree: Path,
    packed: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    umask: int,
) -> None:
    copy_in_disorder(tree, tmp_path / "copy")
    dice, walk = random.Random(umask), os.walk

    def walk_in_disorder(top: str) -> Iterator[tuple[str, list[str], list[str]]]:
        """File systems list a folder's names in orders of their own."""
        for folder, folders, names in walk(top):
            dice.shuffle(folders)
            dice.shuffle(names)
            yield folder, folders, names

    monkeypatch.setattr(os, "walk", walk_in_disorder)
    previous = os.umask(umask)
    try:
        output = tmp_path / "again.tar.zst"
        index = pack.write_archive(str(tmp_path / "copy"), str(output), BASE, level=1)
    finally:
        os.umask(previous)
    assert json.loads(json.dumps(index)) == packed[1]
    assert output.read_bytes() == packed[0].read_bytes()


def make_package(tree: Path, name: str, size: int, seed: int = 0) -> None:
    """Install a package: a few modules, byte code of one, and the record of all."""
    site = "lib/python3.11/site-packages"
    files = [f"{name}/{part}.py" for part in ("__init__", "core", "more")]
    for number, path in enumerate(files):
        write(tree, f"{site}/{path}", random.Random(f"{name}{seed}{number}").randbytes(size // 4))
    write(tree, f"{site}/{name}/__pycache__/core.cpython-311.pyc", noise(size // 4))
    record = "".join(f"{path},,\n" for path in [*files, f"{name}-1.dist-info/RECORD"])
    write(tree, f"{site}/{name}-1.dist-info/RECORD", record.encode())


@pytest.mark.subprocess
def test_an_upgraded_package_changes_its_own_frames_only(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    names = ["ant", "bee", "cow", "dog"]
    for name in names:
        make_package(tree, name, 3 * FULL)
    write(tree, "bin/python", b"#!")
    before = pack.write_archive(str(tree), str(tmp_path / "1"), BASE, level=1)
    make_package(tree, "bee", 3 * FULL + 4096, seed=1)
    after = pack.write_archive(str(tree), str(tmp_path / "2"), BASE, level=1)
    old, new = ({(row[3], row[4]) for row in index["frames"]} for index in (before, after))
    assert {owner for _, owner in old ^ new} == {"bee"}
    # The first frame is the interpreter's and ant's.
    assert {owner for _, owner in old & new} == {"", "cow", "dog"}


def test_byte_code_goes_where_its_source_goes(tmp_path: Path) -> None:
    make_package(tmp_path / "tree", "ant", 4096)
    owners = pack.find_owners(str(tmp_path / "tree"))
    assert owners["lib/python3.11/site-packages/ant/__pycache__/core.cpython-311.pyc"] == "ant"


def test_conda_packages_own_what_their_records_name(tmp_path: Path) -> None:
    record = {"name": "zlib", "files": ["lib/libz.so"]}
    write(tmp_path, "conda-meta/zlib-1.3-0.json", json.dumps(record).encode())
    write(tmp_path, "lib/libz.so", b"\x7fELF")
    assert pack.find_owners(str(tmp_path)) == {
        "lib/libz.so": "zlib",
        "conda-meta/zlib-1.3-0.json": "zlib",
    }


SIZES = st.one_of(
    st.integers(0, 2000),
    st.sampled_from([FULL - 1, FULL, FULL + 1, CUT - 512, CUT - 1, CUT, CUT + 1, 2 * CUT]),
    st.integers(0, 3 * CUT),
)


@given(st.lists(st.tuples(SIZES, st.sampled_from(["", "a", "b", "c"])), max_size=30))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_byte_stands_in_exactly_one_frame(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[int, str]]
) -> None:
    tree = tmp_path_factory.mktemp("plan")
    for number, (size, _) in enumerate(files):
        with (tree / f"{number}").open("wb") as stream:
            stream.truncate(size)  # sparse: a size is all that a plan looks at
    owners = {f"{number}": owner for number, (_, owner) in enumerate(files)}
    frames = pack.plan(str(tree), owners)
    shutil.rmtree(tree)
    covered: dict[str, list[tuple[int, int]]] = {str(number): [] for number in range(len(files))}
    for frame in frames:
        for piece in frame:
            covered[piece.path].append((piece.at, piece.at + piece.length))
            assert piece.owner == owners[piece.path]
        assert sum(piece.length for piece in frame) <= CUT
        assert len(frame) == 1 or all(piece.length == piece.size for piece in frame)
    for number, (size, _) in enumerate(files):
        spans = covered[f"{number}"]
        assert spans[0][0] == 0
        assert spans[-1][1] == size
        assert all(a[1] == b[0] for a, b in pairwise(spans))
    assert all(frames) or not files


@pytest.mark.parametrize("what", ["gap", "end", "base", "version", "size", "frames", "rows"])
def test_an_index_that_is_not_whole_is_refused(
    packed: tuple[Path, dict[str, Any]], what: str
) -> None:
    index = json.loads(json.dumps(packed[1]))
    unpack.check_index(index, BASE)
    if what == "gap":
        del index["frames"][1]
    elif what == "end":
        del index["frames"][-1]
    elif what == "frames":
        index["frames"] = []
    elif what == "rows":
        index["frames"][0][1] = "a"
    elif what == "base":
        index["base"] = "sha256:" + "1" * 64
    elif what == "version":
        index["index_version"] = wire.INDEX_VERSION + 1
    else:
        index["size"] += 1
    with pytest.raises(wire.AgentError, match="not one of this base"):
        unpack.check_index(index, BASE)


def test_a_layer_replaces_files_and_never_writes_into_them(tmp_path: Path) -> None:
    base, layer = tmp_path / "base", tmp_path / "layer"
    write(base, "bin/tool", b"a long program that the base brought", 0o755)
    write(base, "etc/read-only", b"from the base", 0o444)
    write(base, "etc/kept", b"from the base")
    (base / "etc/link").symlink_to("kept")
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("tool", "read-only"):
        os.link(next(base.rglob(name)), kept / name)
    before = snapshot(kept)
    write(layer, "bin/tool", b"short", 0o644)
    write(layer, "etc/read-only", b"from the layer", 0o755)
    write(layer, "etc/link", b"now a file")
    write(layer, "etc/new", b"new")
    sha256, _, _ = pack.write_layer(str(layer), str(tmp_path / "packed"))
    unpack.unpack_layer(
        (tmp_path / "packed").read_bytes(), {"digest": f"sha256:{sha256}"}, str(base)
    )
    expected = snapshot(layer)
    after = snapshot(base)
    assert {name: after[name] for name in expected} == expected
    assert (base / "etc/kept").read_bytes() == b"from the base"
    assert snapshot(kept) == before


def test_a_layer_that_is_another_is_refused_whole(tmp_path: Path) -> None:
    write(tmp_path / "layer", "file", b"content")
    pack.write_layer(str(tmp_path / "layer"), str(tmp_path / "packed"))
    data = (tmp_path / "packed").read_bytes()
    with pytest.raises(wire.AgentError, match="corrupt: the layer"):
        unpack.unpack_layer(data, {"digest": "sha256:" + "0" * 64}, str(tmp_path / "out"))
    with pytest.raises(wire.AgentError, match="zstd"):
        unpack.unpack_layer(data[:-3], {"digest": "sha256:" + "0" * 64}, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


UNPACK = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
# Before it becomes nobody, who may not read the interpreter's own folder.
from envboot.agent import unpack
import encodings.idna
index = json.load(open(sys.argv[3]))
os.setgroups([]); os.setgid(65534); os.setuid(65534); os.umask(0o022)
unpack.unpack_archive(sys.argv[2], index, sys.argv[4] + "/env", lambda size: None, processes=3)
"""


@pytest.mark.subprocess
@pytest.mark.sockets
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_who_is_not_root_unpacks_read_only_files_too(
    serve: Callable[[Path], str], tmp_path: Path
) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"
    write(tree, "large", noise(2 * CUT + 5), 0o444)
    write(tree, "small", b"small", 0o400)
    write(tree, "private/file", b"file", 0o664)
    make_folder(tree, "private", 0o700)
    index = pack.write_archive(str(tree), str(tmp_path / "packed"), BASE, level=1)
    (tmp_path / "index").write_text(json.dumps(index))
    out.mkdir()
    os.chown(out, 65534, 65534)
    # Folders of a test are private to root: the way to these is opened, no more.
    temporary = Path(tempfile.gettempdir())
    ours = [folder for folder in tmp_path.parents if temporary in folder.parents]
    for folder in (tmp_path, *ours):
        folder.chmod(folder.stat().st_mode | 0o011)
    project = str(Path(__file__).parents[2])
    url = serve(tmp_path / "packed")
    arguments = [project, url, str(tmp_path / "index"), str(out)]
    subprocess.run([sys.executable, "-c", UNPACK, *arguments], check=True, timeout=60)
    assert snapshot(out / "env") == snapshot(tree)
