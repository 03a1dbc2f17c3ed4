"""What is remembered of a launch's selection, and what comes before it."""

from __future__ import annotations

import json
from pathlib import Path

from envboot.selection import Selection


def keep(selection: Selection, folder: Path = Path("/nowhere")) -> Selection:
    """Remember a selection, as a file does, and take it up again with nothing given anew."""
    return Selection().over(json.loads(json.dumps(selection.kept("/env/bin/python", folder))))


def test_a_selection_is_the_same_again() -> None:
    made = Selection(
        python="./venv", ignore=("b", "a"), add=("cupy>=13",), cuda="12.4", loose=False
    )
    assert keep(made) == Selection(
        python="/env/bin/python", ignore=("b", "a"), add=("cupy>=13",), cuda="12.4", loose=False
    )


def test_a_lock_file_is_found_from_another_folder_and_a_published_name_stays_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "uv.lock").touch()
    assert keep(Selection(lock_file=Path("uv.lock")), tmp_path).lock_file == tmp_path / "uv.lock"
    published = Selection(lock_file=Path("train@latest"))
    assert keep(published, tmp_path).lock_file == Path("train@latest")


def test_what_is_given_anew_comes_first() -> None:
    here = ("/env/bin/python", Path("/nowhere"))
    kept = Selection(ignore=("a",), only=("b",), platform="linux-64").kept(*here)
    given = Selection(python="/other", ignore=("c",)).over(kept)
    assert (given.python, given.ignore, given.only) == ("/other", ("c",), ("b",))
    file = Selection(lock_file=Path("uv.lock")).over(kept)
    assert (file.ignore, file.only, file.platform) == ((), (), "linux-64")
    lock = Selection(lock_file=Path("uv.lock")).kept(*here)
    assert Selection(ignore=("a",)).over(lock).lock_file is None
