"""Secrets of a command: where their values come from, and what is refused before any start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envboot.command_secrets import (
    MOST,
    TOGETHER,
    SecretOptions,
    Secrets,
    read_secrets,
    refuse_places,
    refuse_values,
)
from envboot.config import Settings, parse_settings
from envboot.errors import UsageError
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.session import Session

ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:team/db-a1B2c3"
PARAMETER = "arn:aws:ssm:eu-central-1:123456789012:parameter/team/token"
VERSION = "projects/team-1/secrets/db/versions/latest"
VALUE = "hunter2-is-not-shown"


@pytest.fixture
def session(tmp_path: Path) -> Session:
    environment = {"TOKEN": VALUE, "EMPTY": "", "HOME": str(tmp_path / "home")}
    return make_session(folder=tmp_path, environment=environment, cache=tmp_path, state=tmp_path)


def read(session: Session, *specs: str, files: tuple[str, ...] = ()) -> Secrets:
    return read_secrets(SecretOptions(specs=specs, files=files), session)


def refuse(session: Session, *specs: str, files: tuple[str, ...] = ()) -> str:
    """Return everything that the refusal says; it never has the value."""
    with pytest.raises(UsageError) as caught:
        read(session, *specs, files=files)
    error = caught.value
    text = "\n".join([error.message, *error.causes, error.hint or ""])
    assert VALUE not in text
    assert error.__cause__ is None or VALUE not in str(error.__cause__)
    return text


def test_a_name_takes_its_value_from_the_environment(session: Session) -> None:
    assert read(session, "TOKEN").values == {"TOKEN": VALUE}


def test_no_representation_shows_a_value(session: Session) -> None:
    found = read(session, "TOKEN")
    assert VALUE not in repr(found)
    assert VALUE not in repr(SecretOptions(specs={"TOKEN": VALUE}))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("one line\n", "one line"),
        ("one line\r\n", "one line"),
        (" kept spaces ", " kept spaces "),
        ("-----BEGIN\nx\n-----END\n", "-----BEGIN\nx\n-----END\n"),
        ("two breaks\n\n", "two breaks\n\n"),
    ],
)
def test_a_file_is_the_value_without_the_break_of_its_only_line(
    session: Session, tmp_path: Path, text: str, value: str
) -> None:
    (tmp_path / "token").write_bytes(text.encode())
    assert read(session, "KEY=@token").values == {"KEY": value}


def test_a_file_may_be_in_the_users_own_directory(session: Session, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/token").write_text("x-y-z")
    assert read(session, "KEY=@~/token").values == {"KEY": "x-y-z"}


@pytest.mark.parametrize("place", [ARN, f"{ARN}:password", f"{ARN}:::v1", PARAMETER, VERSION])
def test_a_place_of_a_cloud_is_not_read_here(session: Session, place: str) -> None:
    assert read(session, f"KEY={place}") == Secrets(managed={"KEY": place})


def test_an_env_file_is_read_as_python_dotenv_does(session: Session, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "\ufeff# comment\n\nA=1 # one\nexport B='it is $B'\nC=\"two\\nlines\"\nD='${kept}'\nE=\n"
        "F='-----BEGIN\nx'\n"
    )
    assert read(session, files=(".env",)).values == {
        "A": "1",
        "B": "it is $B",
        "C": "two\nlines",
        "D": "${kept}",
        "E": "",
        "F": "-----BEGIN\nx",
    }


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("A=1\n\nB\n", "Expected `NAME=VALUE` in `.env`, line 3"),
        (f"A='{VALUE}\n", "Expected `NAME=VALUE` in `.env`, line 1"),
        (f"A=1\nB={VALUE}${{A}}\n", "Cannot expand the `${…}` of `B` in `.env`, line 2"),
        ("A=\"it's '${B}\"\n", "Cannot expand"),
        (f"A=1\nA={VALUE}\n", "one value for secret `A`, found two"),
        (f"PATH={VALUE}\n", "Cannot pass `PATH` as a secret"),
        (f"1A={VALUE}\n", "Expected the name of a variable as a secret, found `1A`"),
    ],
)
def test_an_env_file_says_nothing_that_would_be_taken_otherwise(
    session: Session, tmp_path: Path, text: str, wanted: str
) -> None:
    (tmp_path / ".env").write_text(text)
    assert wanted in refuse(session, files=(".env",))


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (f"KEY={VALUE}", "Cannot take the value of secret `KEY` from the command line"),
        ("KEY=", "Cannot take the value of secret `KEY` from the command line"),
        ("KEY=arn:aws:s3:::bucket", "Expected a secret of a cloud at `--secret KEY=…`"),
        ("KEY=projects/p/secrets/s", "Expected a secret of a cloud at `--secret KEY=…`"),
        ("KEY=@absent", "Cannot read `absent` for secret `KEY`\nNo such file or directory"),
        ("KEY=@.", "Cannot read `.` for secret `KEY`\nIs a directory"),
        ("ABSENT", "Cannot pass `ABSENT` as a secret: not set in this environment"),
        ("EMPTY", "Cannot pass `EMPTY` as a secret: empty in this environment"),
        ("A-B", "Expected the name of a variable as a secret, found `A-B`"),
        ("PATH", "Cannot pass `PATH` as a secret: the machine itself sets it"),
        ("ENVBOOT_RANK=@x", "Cannot pass `ENVBOOT_RANK` as a secret"),
    ],
)
def test_what_is_no_secret_is_refused(session: Session, spec: str, wanted: str) -> None:
    assert wanted in refuse(session, spec)


def test_every_name_that_is_not_set_is_named(session: Session) -> None:
    assert "`ABSENT`, `EMPTY`, `OTHER` as secrets: not set" in refuse(
        session, "ABSENT", "EMPTY", "OTHER", "TOKEN"
    )


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"x" * (MOST + 1), f"found {MOST + 1:,}"),
        (b"x" * (MOST + 9), f"Expected at most {MOST + 2:,} bytes"),
        (VALUE.encode() + b"\xff", "Expected UTF-8 in `f`"),
        (VALUE.encode() + b"\0", "Expected text as the value of secret `KEY`"),
        (b"\n", "`f` is empty"),
    ],
)
def test_a_value_is_text_of_a_bounded_size(
    session: Session, tmp_path: Path, data: bytes, wanted: str
) -> None:
    (tmp_path / "f").write_bytes(data)
    assert wanted in refuse(session, "KEY=@f")


def test_all_values_together_are_bounded(session: Session, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * MOST)
    specs = [f"K{number}=@f" for number in range(TOGETHER // MOST)]
    assert len(read(session, *specs).values) == len(specs)
    assert "bytes of secrets altogether" in refuse(session, *specs, "TOKEN")


def test_a_name_is_given_once_and_not_in_plain_text_too(session: Session) -> None:
    assert "Expected one value for secret `TOKEN`, found two: `TOKEN`" in refuse(
        session, "TOKEN", "TOKEN"
    )
    with pytest.raises(UsageError, match="Cannot pass `TOKEN` both in plain text"):
        read_secrets(SecretOptions(specs=("TOKEN",)), session, variables=["TOKEN"])


def test_without_a_command_a_secret_is_refused_and_the_projects_are_not_read(
    session: Session,
) -> None:
    from dataclasses import replace

    with pytest.raises(UsageError, match="Cannot pass secrets without a command"):
        read_secrets(SecretOptions(specs=("TOKEN",)), session, command=False)
    session = replace(session, settings=Settings(secrets=("ABSENT",)))
    assert not read_secrets(SecretOptions(), session, command=False)


def test_a_project_names_what_all_its_commands_get(session: Session, tmp_path: Path) -> None:
    from dataclasses import replace

    settings = parse_settings(f'[tool.envboot]\nsecrets = ["TOKEN", "DB={ARN}"]\n')
    session = replace(session, settings=settings)
    assert read(session) == Secrets(values={"TOKEN": VALUE}, managed={"DB": ARN})
    (tmp_path / ".env").write_text("DB=local\n")
    found = read(session, f"TOKEN={ARN}", files=(".env",))
    assert found == Secrets(values={"DB": "local"}, managed={"TOKEN": ARN})
    session = replace(session, settings=Settings(secrets=(f"TOKEN={VALUE}",)))
    assert "at `tool.envboot.secrets`, found text for `TOKEN`" in refuse(session)


def test_values_are_given_in_a_program_as_a_mapping(session: Session) -> None:
    given = SecretOptions(specs={"KEY": ARN})
    assert read_secrets(given, session).values == {"KEY": ARN}


def test_a_document_that_others_start_machines_with_takes_places_only(session: Session) -> None:
    with pytest.raises(UsageError, match="Cannot put `TOKEN` into user-data") as caught:
        refuse_values(read(session, "TOKEN"), what="user-data", cloud="gcp")
    assert "TOKEN=projects/PROJECT/secrets/NAME/versions/latest" in (caught.value.hint or "")
    refuse_values(read(session, f"TOKEN={ARN}"), what="user-data", cloud="aws")


@pytest.mark.parametrize(("cloud", "fine"), [("aws", True), ("gcp", False), (None, False)], ids=str)
def test_machines_read_secrets_of_their_own_cloud_only(
    session: Session, cloud: str | None, fine: bool
) -> None:
    secrets = read(session, f"KEY={PARAMETER}")
    if fine:
        refuse_places(secrets, owner="`aws`", cloud=cloud)
        return
    with pytest.raises(UsageError, match="they have no role there"):
        refuse_places(secrets, owner="`it`", cloud=cloud)
