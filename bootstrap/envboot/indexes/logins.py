"""Logins: what URLs carry, netrc, and keyring's program. None is ever printed."""

from __future__ import annotations

import base64
import netrc
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from envboot import process
from envboot.folders import home_folder

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """A user's name and password; either may be empty, neither is in the `repr`."""

    username: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """The value of `Authorization` (RFC 7617)."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


def split_login(url: str) -> tuple[str, Login | None]:
    """Return a URL without its user info, and the login that this was."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    name, _, password = user.partition(":")
    login = Login(username=unquote(name), password=unquote(password))
    return parts._replace(netloc=host).geturl(), login


def join_login(url: str, login: Login) -> str:
    """Return a URL that carries a login: for a program that takes none otherwise."""
    parts = urlsplit(url)
    user = f"{quote(login.username, safe='')}:{quote(login.password, safe='')}"
    return parts._replace(netloc=f"{user}@{parts.netloc}").geturl()


def find_netrc(url: str, environment: Mapping[str, str]) -> Login | None:
    """Return the login of `NETRC`, else `~/.netrc`, for exactly a URL's host.

    The file's `default` entry does not count: it would make every host a private one.
    """
    home = home_folder(environment)
    chosen = environment.get("NETRC")
    for file in [Path(chosen)] if chosen else [home / ".netrc", home / "_netrc"]:
        try:
            hosts = netrc.netrc(file).hosts
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            continue
        name, _, password = hosts.get(urlsplit(url).hostname or "", ("", "", ""))
        if password:
            return Login(username=name, password=password)
    return None


def find_keyring(
    url: str,
    username: str | None,
    environment: Mapping[str, str],
    *,
    folder: Path,
    programs: Path,
) -> Login | None:
    """Ask keyring's program for a login, by URL and then by host as pip and uv do.

    It is looked for on PATH, as seen from `folder`, and in `programs`, the scanned environment's.
    Without a user's name only keyring 25 or later answers (`--mode creds`).
    """
    program = process.find_program("keyring", environment, folder, programs)
    if program is None:
        return None
    for service in (url, urlsplit(url).netloc):
        mode = [service, username] if username else ["--mode", "creds", service]
        # Its store may have to be unlocked on the terminal.
        done = process.run(
            [program, "get", *mode], environment=environment, folder=folder, terminal=True
        )
        lines = done.text.splitlines()
        if done.code == 0 and len(lines) >= len(mode) - 1:
            return Login(username=username or lines[0], password=lines[-1])
    return None
