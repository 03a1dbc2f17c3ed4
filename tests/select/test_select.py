"""What of an environment goes to the machines, rule by rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envboot.config import Settings
from envboot.errors import EnvbootError, LockError, UsageError
from envboot.lock import Locked
from envboot.lock.comparison import Row
from envboot.lock.target import Target
from envboot.manifest import Base, CondaPackage, Python, Wheel
from envboot.scan.schema import Loose, Problem, Scan
from envboot.selection import Selection
from envboot.selection.apply import Selected, leave_ignored, select
from envboot.selection.required import DASK, refuse_missing_in, starts_dask
from tests.lock.documents import SHA, make_distribution, make_record, make_scan

PIP = make_scan(
    make_distribution("app", requires=("numpy>=1", "tool; sys_platform == 'linux'")),
    make_distribution("numpy"),
    make_distribution("tool", requires=("leaf", "absent; sys_platform == 'win32'")),
    make_distribution("leaf"),
    make_distribution("alone"),
)
CONDA = make_scan(
    make_distribution("torch", conda="pytorch", requires=("numpy",)),
    make_distribution("numpy", conda="numpy"),
    make_distribution("graphviz", conda="python-graphviz"),
    make_distribution("app", requires=("torch",)),
    make_distribution("alone"),
    conda=(
        make_record("python", depends=("openssl >=3,<4", "__glibc >=2.17")),
        make_record("openssl"),
        make_record("pytorch", depends=("numpy >=1", "python_abi 3.11.* *_cp311", "libtorch=2")),
        make_record("python_abi"),
        make_record("libtorch"),
        make_record("numpy", depends=("python",)),
        make_record("graphviz"),
        make_record("python-graphviz", depends=("graphviz",)),
    ),
)


def choose(
    scan: Scan,
    *,
    platform: str = "linux-64",
    settings: Settings | None = None,
    dask: bool = False,
    ignore: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
    add: tuple[str, ...] = (),
    loose: bool = True,
) -> Selected:
    return select(
        scan,
        Selection(ignore=ignore, only=only, add=add, loose=loose),
        settings=settings or Settings(),
        target=Target(platform=platform, glibc="2.28", host_python=False),
        dask=dask,
    )


def kept(selected: Selected) -> list[str]:
    """The names of distributions that are pip's, then of conda's packages."""
    pip = [item.name for item in selected.scan.distributions if not item.conda]
    return pip + [record.name for record in selected.scan.conda]


def told(selected: Selected) -> list[str]:
    return [f"{note.subject}: {note.message}" for note in selected.notes]


def show(error: EnvbootError) -> str:
    return "\n".join([error.message, *error.causes, error.hint or ""])


@pytest.mark.parametrize(
    "text",
    [
        "leaf (>=5.1.*)",
        "leaf (>=1,<2,)",
        "leaf>=1<2",
        "leaf (==1.0-final)",
        "leaf (>='1')",
        "Leaf [fast] (~=1.*)",
        "leaf; python_version>=2.7",
        "leaf >dev",
    ],
)
def test_a_requirement_of_before_pep_508_brings_its_package(text: str) -> None:
    scan = make_scan(
        make_distribution("app", requires=(text,)),
        make_distribution("leaf", "5.3"),
        make_distribution("alone"),
    )
    assert kept(choose(scan, only=("app",))) == ["app", "leaf"]


def test_old_versions_are_compared_where_they_can_be_read() -> None:
    scan = make_scan(
        make_distribution("app", requires=("one (>=5.1.*)", "two (==1.0-final)")),
        make_distribution("one", "5.0"),
        make_distribution("two", "1.0"),
    )
    assert told(choose(scan)) == ["app: Needs `one>=5.1`, found 5.0"]


def test_a_requirement_that_names_nothing_is_told_about_where_it_is_followed() -> None:
    scan = make_scan(make_distribution("app", requires=("(>=1)",)))
    assert told(choose(scan)) == []
    assert told(choose(scan, only=("app",))) == [
        "app: Cannot read its requirement `(>=1)`; name with `--only` what it needs"
    ]


class TestIgnore:
    def test_exactly_that_package_is_dropped_and_its_dependencies_stay(self) -> None:
        assert kept(choose(PIP, ignore=("tool",))) == ["app", "numpy", "leaf", "alone"]

    def test_who_needs_it_is_told_about(self) -> None:
        assert told(choose(PIP, ignore=("numpy",))) == [
            "app: Needs `numpy`, which stays here (ignored)"
        ]

    def test_names_are_compared_normalised(self) -> None:
        scan = make_scan(make_distribution("my-tool"), conda=(make_record("ruamel.yaml"),))
        assert kept(choose(scan, ignore=("My_Tool", "ruamel-yaml"))) == []

    def test_a_distribution_of_condas_goes_with_its_package(self) -> None:
        selected = choose(CONDA, ignore=("torch",))
        assert "pytorch" not in kept(selected)
        assert "torch" not in [item.name for item in selected.scan.distributions]
        assert told(selected) == ["app: Needs `torch`, which stays here (ignored)"]

    def test_a_conda_package_that_needs_it_is_told_about(self) -> None:
        assert told(choose(CONDA, ignore=("libtorch",))) == [
            "pytorch: Needs `libtorch`, which stays here (ignored)"
        ]

    def test_condas_package_of_that_name_is_meant_before_a_distribution(self) -> None:
        assert "python-graphviz" in kept(choose(CONDA, ignore=("graphviz",)))
        assert "graphviz" not in kept(choose(CONDA, ignore=("graphviz",)))

    def test_what_pip_installed_over_conda_goes_from_both(self) -> None:
        scan = make_scan(make_distribution("numpy", "2"), conda=(make_record("numpy"),))
        assert kept(choose(scan, ignore=("numpy",))) == []

    def test_unknown_names_are_refused_all_at_once_with_near_misses(self) -> None:
        with pytest.raises(UsageError) as caught:
            choose(PIP, ignore=("nunpy",), only=("zzz", "ap"))
        shown = show(caught.value)
        assert "`--ignore nunpy`: similar: `numpy`" in shown
        assert "`--only zzz`: nothing similar" in shown
        assert "`--only ap`: similar: `app`" in shown

    def test_the_interpreter_cannot_be_ignored(self) -> None:
        with pytest.raises(UsageError, match="Cannot ignore `python`"):
            choose(CONDA, ignore=("python",))

    def test_settings_ignore_too_and_only_warn_of_unknown_names(self) -> None:
        selected = choose(PIP, ignore=("leaf",), settings=Settings(ignore=("alone", "nunpy")))
        assert kept(selected) == ["app", "numpy", "tool"]
        assert "tool.envboot.ignore: `nunpy` is not in the environment (similar: `numpy`)" in told(
            selected
        )

    def test_problems_of_what_is_ignored_are_no_longer_told(self) -> None:
        problems = (Problem(subject="alone", message="x"), Problem(subject="app", message="y"))
        selected = choose(replace(PIP, problems=problems), ignore=("alone",))
        assert selected.scan.problems == problems[1:]

    def test_rows_say_what_stays_and_why(self) -> None:
        (row,) = choose(PIP, ignore=("alone",)).rows
        assert (row.name, row.source, row.here, row.there) == ("alone", "pypi", "1.0", None)
        assert (row.status, row.reason) == ("dropped", "ignored")

    def test_nothing_brings_back_what_is_ignored(self) -> None:
        ignored = choose(CONDA, ignore=("torch", "alone")).ignored
        assert ignored == {"pytorch", "torch", "alone"}
        base = Base(
            platform="linux-64",
            python=Python(version="3.11.2", source="conda"),
            prefix="/p",
            virtual_packages={},
            conda=tuple(
                CondaPackage(url=f"https://c.test/linux-64/{name}-2.0-py_0.conda", sha256=SHA)
                for name in ("pytorch", "pytorch-lightning")
            ),
            wheels=tuple(Wheel(name=name, version="1", sha256=SHA) for name in ("alone", "app")),
            tools={},
        )
        rows = tuple(Row(name=name, source="pypi", status="added") for name in ("alone", "app"))
        locked = leave_ignored(Locked(base=base, rows=rows), ignored)
        assert [wheel.name for wheel in locked.base.wheels] == ["app"]
        assert [package.url.split("/")[-1] for package in locked.base.conda] == [
            "pytorch-lightning-2.0-py_0.conda"
        ]
        assert [row.name for row in locked.rows] == ["app"]


class TestOnly:
    def test_all_that_is_needed_comes_along_and_nothing_else(self) -> None:
        selected = choose(PIP, only=("app",))
        assert kept(selected) == ["app", "numpy", "tool", "leaf"]
        assert told(selected) == []
        assert [(row.name, row.reason) for row in selected.rows] == [("alone", "not needed")]

    def test_markers_are_those_of_the_target(self) -> None:
        here = replace(PIP, platform="win-64")
        assert "tool" in kept(choose(here, only=("app",)))
        windows = make_scan(make_distribution("app", requires=("numpy; os_name == 'nt'",)))
        windows = replace(windows, distributions=(*windows.distributions, *PIP.distributions[1:]))
        assert kept(choose(windows, only=("app",))) == ["app"]

    def test_what_conda_depends_on_comes_along_and_the_interpreter_stays(self) -> None:
        assert kept(choose(CONDA, only=("alone",))) == ["alone", "python", "openssl"]
        everything = ["python", "openssl", "pytorch", "python_abi", "libtorch", "numpy"]
        assert kept(choose(CONDA, only=("app",))) == ["app", *everything]
        assert kept(choose(CONDA, only=("torch",))) == everything

    def test_what_the_distributions_of_a_conda_package_need_comes_along(self) -> None:
        torch = make_distribution("torch", conda="pytorch", requires=("alone",))
        scan = replace(CONDA, distributions=(torch, *CONDA.distributions[1:]))
        assert "alone" in kept(choose(scan, only=("pytorch",)))

    def test_what_is_required_comes_along(self) -> None:
        selected = choose(PIP, only=("leaf",), settings=Settings(require=("alone",)))
        assert kept(selected) == ["leaf", "alone"]

    def test_the_dependencies_of_what_is_ignored_stay(self) -> None:
        assert kept(choose(PIP, only=("app",), ignore=("tool",))) == ["app", "numpy", "leaf"]

    def test_an_extra_that_somebody_needs_is_told_about(self) -> None:
        scan = make_scan(
            make_distribution("app", requires=("server[fast]>=1",)), make_distribution("server")
        )
        assert told(choose(scan, only=("app",))) == [
            "server[fast]: Is needed by `app`; name with `--only` what the extra brings"
        ]
        assert told(choose(scan)) == []

    def test_loose_code_stays_with_it_unless_it_is_not_wanted(self) -> None:
        loose = (Loose(folder="/work", origin="current", names=("a.py",)),)
        scan = replace(PIP, loose=loose)
        assert choose(scan, only=("app",)).scan.loose == loose
        assert choose(scan, loose=False).scan.loose == ()


class TestAdd:
    def test_it_is_passed_on(self) -> None:
        assert choose(PIP, add=("cupy-cuda12x>=13",)).add == ("cupy-cuda12x>=13",)

    def test_it_replaces_what_is_installed(self) -> None:
        selected = choose(PIP, add=("NumPy==2",))
        assert selected.add == ("NumPy==2",)
        assert "numpy" not in kept(selected)
        assert told(selected) == ["numpy: Is installed here, and replaced by what `--add` asks for"]

    def test_it_replaces_condas_too(self) -> None:
        selected = choose(CONDA, add=("torch==2.5.1",))
        assert "pytorch" not in kept(selected)
        assert len(told(selected)) == 1

    def test_the_command_line_comes_before_the_settings(self) -> None:
        settings = Settings(add=("cupy==1", "other"))
        assert choose(PIP, add=("cupy==2",), settings=settings).add == ("cupy==2", "other")

    def test_what_is_for_another_platform_is_not_added(self) -> None:
        assert choose(PIP, add=("pywin32; sys_platform == 'win32'",)).add == ()

    def test_everything_that_is_no_requirement_is_refused(self) -> None:
        with pytest.raises(UsageError) as caught:
            choose(PIP, add=("./folder", "fine", "a b"))
        assert "found `./folder`, `a b`" in caught.value.message


class TestPlatforms:
    MAC = replace(
        make_scan(
            make_distribution("appnope"),
            make_distribution("pyobjc-core"),
            make_distribution("tensorflow-macos", "2.13.1"),
            make_distribution("app", requires=("appnope; sys_platform == 'darwin'", "numpy")),
            make_distribution("numpy"),
            conda=(make_record("libcxx"), make_record("zlib", depends=("libcxx >=16", "__osx"))),
        ),
        platform="osx-arm64",
    )

    def test_what_only_this_platform_has_stays_here(self) -> None:
        selected = choose(self.MAC)
        assert kept(selected) == ["app", "numpy", "zlib"]
        assert "appnope: Stays here: exists on macOS only" in told(selected)

    def test_nobody_who_needs_it_is_told_about(self) -> None:
        assert not [line for line in told(choose(self.MAC)) if line.startswith(("app:", "zlib"))]

    def test_what_does_the_same_elsewhere_is_added(self) -> None:
        selected = choose(self.MAC)
        assert selected.add == ("tensorflow==2.13.*",)
        reasons = {row.name: row.reason for row in selected.rows}
        assert reasons["tensorflow-macos"] == "exists on macOS only; `tensorflow==2.13.*` instead"

    def test_what_does_the_same_is_not_added_twice(self) -> None:
        both = (*self.MAC.distributions, make_distribution("tensorflow", "2.13.1"))
        assert choose(replace(self.MAC, distributions=both)).add == ()

    def test_the_same_platform_keeps_what_is_there(self) -> None:
        scan = make_scan(make_distribution("appnope"), make_distribution("colorama"))
        assert kept(choose(scan)) == ["appnope", "colorama"]

    def test_windows_keeps_what_runs_everywhere(self) -> None:
        names = ("colorama", "pywin32", "pywinpty")
        scan = replace(
            make_scan(*map(make_distribution, names), conda=(make_record("vs2015_runtime"),)),
            platform="win-64",
        )
        assert kept(choose(scan)) == ["colorama"]

    def test_an_architecture_is_a_platform_too(self) -> None:
        scan = make_scan(conda=(make_record("mkl_fft"), make_record("zlib")))
        selected = choose(scan, platform="linux-aarch64")
        assert kept(selected) == ["zlib"]
        assert kept(choose(replace(scan, platform="osx-64"))) == ["mkl_fft", "zlib"]
        assert selected.rows[0].reason == "exists on linux-64 and osx-64 and win-64 only"


class TestSystem:
    SCAN = make_scan(
        make_distribution("yaml", system=True),
        make_distribution("requests", system=True),
        make_distribution("tool", requires=("requests>=2", "six")),
        make_distribution("six", system=True),
    )

    def test_what_the_system_owns_stays_here_with_a_note(self) -> None:
        scan = make_scan(make_distribution("yaml", system=True), make_distribution("tool"))
        selected = choose(scan)
        assert kept(selected) == ["tool"]
        assert told(selected) == [
            "yaml: Stays here: the operating system's package manager owns it"
        ]

    def test_what_is_needed_of_it_is_refused_by_name(self) -> None:
        with pytest.raises(LockError) as caught:
            choose(self.SCAN)
        assert caught.value.message == (
            "Cannot bring 2 packages of the operating system: `requests`, `six`"
        )
        assert "`requests`: `tool` needs `requests>=2`" in caught.value.causes

    @pytest.mark.parametrize(
        "way_out",
        [{"ignore": ("requests", "six")}, {"ignore": ("tool",)}, {"add": ("requests", "six")}],
    )
    def test_the_ways_out_of_the_hint_work(self, way_out: dict[str, tuple[str, ...]]) -> None:
        choose(self.SCAN, **way_out)  # type: ignore[arg-type]

    def test_only_cannot_ask_for_it(self) -> None:
        with pytest.raises(LockError) as caught:
            choose(self.SCAN, only=("yaml",))
        assert caught.value.causes == ("`yaml`: `--only yaml` asks for it",)


class TestRequired:
    FULL = make_scan(*map(make_distribution, (*DASK, "numpy")))

    def test_a_dask_launch_refuses_naming_all_that_is_missing(self) -> None:
        with pytest.raises(LockError) as caught:
            choose(self.FULL, dask=True, ignore=("msgpack", "tornado"))
        assert caught.value.message == "Cannot go without 2 packages: `msgpack`, `tornado`"
        assert "`tornado`: Dask needs it, and it stays here (ignored)" in caught.value.causes
        with pytest.raises(LockError) as caught:
            choose(PIP, dask=True)
        assert all(f"`{name}`: Dask needs it" in show(caught.value) for name in DASK)

    def test_other_launches_need_none_of_it(self) -> None:
        assert choose(PIP).exact == frozenset()

    def test_what_dask_needs_keeps_its_version(self) -> None:
        assert choose(self.FULL, dask=True).exact == set(DASK)

    def test_condas_names_of_the_same_count_and_are_exact_too(self) -> None:
        scan = make_scan(
            make_distribution("dask", conda="dask-core"),
            make_distribution("msgpack", conda="msgpack-python"),
            *(make_distribution(name, conda=name) for name in ("cloudpickle", "distributed")),
            make_distribution("tornado"),
            conda=tuple(
                map(make_record, ("dask-core", "msgpack-python", "cloudpickle", "distributed"))
            ),
        )
        assert choose(scan, dask=True).exact == {*DASK, "dask-core", "msgpack-python"}

    def test_settings_require_in_every_command(self) -> None:
        settings = Settings(require=("Num_Py", "alone"))
        with pytest.raises(LockError) as caught:
            choose(PIP, settings=settings)
        assert caught.value.causes == (
            "`num-py`: `tool.envboot.require` needs it, and it is not there",
        )
        assert choose(PIP, settings=Settings(require=("alone",))).exact == {"alone"}

    def test_what_is_added_is_there(self) -> None:
        choose(PIP, settings=Settings(require=("cupy",)), add=("cupy",))

    def test_a_lock_file_must_have_it_too(self) -> None:
        conda = tuple(
            CondaPackage(url=f"https://c.test/noarch/{name}-1.0-py_0.conda", sha256=SHA)
            for name in ("dask-core", "msgpack-python")
        )
        base = Base(
            platform="linux-64",
            python=Python(version="3.11.2", source="conda"),
            prefix="/p",
            virtual_packages={},
            conda=conda,
            wheels=(Wheel(name="tornado", version="1", sha256=SHA),),
            tools={},
        )
        with pytest.raises(LockError, match="Cannot go without 1 package: `cloudpickle`"):
            refuse_missing_in(base, ["distributed"], Settings(), dask=True)


class TestConflicts:
    def test_missing_and_wrong_versions_are_told(self) -> None:
        scan = make_scan(
            make_distribution("app", requires=("numpy>=2", "absent<3; python_version >= '3'")),
            make_distribution("numpy", "1.26"),
        )
        assert told(choose(scan)) == [
            "app: Needs `numpy>=2`, found 1.26",
            "app: Needs `absent<3`, which is not installed",
        ]

    def test_the_python_version_is_checked(self) -> None:
        scan = make_scan(make_distribution("old", requires_python="<3"))
        (line,) = told(choose(scan))
        assert line.startswith("old: Needs Python `<3`, found 3.")

    def test_pre_releases_and_what_cannot_be_read_are_no_conflict(self) -> None:
        scan = make_scan(
            make_distribution("app", requires=("numpy>=1", "odd>1", "not a requirement !")),
            make_distribution("numpy", "2.0rc1"),
            make_distribution("odd", "unknown"),
        )
        assert told(choose(scan)) == []

    def test_markers_are_those_of_the_target(self) -> None:
        scan = make_scan(
            make_distribution(
                "app",
                requires=(
                    "absent; platform_machine == 'aarch64'",
                    "pywin32; sys_platform == 'win32'",
                    "gone; platform_system == 'Linux'",
                ),
            )
        )
        assert told(choose(scan)) == ["app: Needs `gone`, which is not installed"]

    def test_what_is_needed_on_the_target_only_is_the_locks_to_bring(self) -> None:
        requires = ("ptyprocess; os_name != 'nt'", "absent; os_name == 'nt'", "gone")
        scan = replace(make_scan(make_distribution("app", requires=requires)), platform="win-64")
        assert told(choose(scan)) == ["app: Needs `gone`, which is not installed"]

    def test_of_two_with_one_name_the_first_on_the_path_counts(self) -> None:
        two = (make_distribution("numpy", "1"), make_distribution("numpy", "2"))
        scan = make_scan(*two, make_distribution("app", requires=("numpy<2",)))
        assert told(choose(scan)) == []

    def test_a_missing_dependency_of_a_conda_package_is_told(self) -> None:
        scan = make_scan(conda=(make_record("zlib", depends=("libzlib 1.3.1 h_0", "__unix")),))
        assert told(choose(scan)) == ["zlib: Needs `libzlib 1.3.1 h_0`, which is not installed"]

    def test_condas_own_are_judged_by_their_record(self) -> None:
        scan = make_scan(
            make_distribution("app", conda="app", requires=("absent", "numpy<1", "six<1")),
            make_distribution("numpy", conda="numpy"),
            make_distribution("six"),
            conda=(make_record("app"), make_record("numpy")),
        )
        assert told(choose(scan)) == ["app: Needs `six<1`, found 1.0"]


@pytest.mark.parametrize(
    ("command", "starts"),
    [
        ("dask scheduler", True),
        ("/opt/envboot/env/bin/dask-worker tcp://10.0.0.1:8786", True),
        ("dask-scheduler", True),
        ("python -m distributed.cli.dask_worker x", True),
        ("python3.11 -u -m dask worker", True),
        ("python -m mypackage.dask", False),
        ("python dask.py", False),
        ("python -m", False),
        ("echo dask", False),
        ("", False),
    ],
)
def test_a_command_that_starts_dask_is_known(command: str, starts: bool) -> None:
    assert starts_dask(tuple(command.split())) is starts
