"""What lets a reader in never stays in a URL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envboot.redaction import strip_channel, strip_url


@pytest.mark.parametrize(
    ("url", "stripped"),
    [
        ("https://host/a.whl", "https://host/a.whl"),
        ("https://user:secret@host:8080/a.whl", "https://host:8080/a.whl"),
        ("https://token@host/a.git", "https://host/a.git"),
        ("https://a@b:c@host/a", "https://host/a"),
        ("https://host/a.whl?sig=secret#sha256=1", "https://host/a.whl"),
        ("https://host?sig=secret", "https://host"),
        ("ssh://git@host/a.git", "ssh://git@host/a.git"),
        ("ssh://deploy:secret@host/a.git", "ssh://deploy@host/a.git"),
        ("https://git:secret@host/a.git", "https://host/a.git"),
        ("https://${USER}:${TOKEN}@host/a.git", "https://${USER}:${TOKEN}@host/a.git"),
        ("https://pypi.anaconda.org/t/secret/me/a.whl", "https://pypi.anaconda.org/me/a.whl"),
        ("https://host/t/team/a.git", "https://host/t/team/a.git"),
        ("file:///my%20folder/t/project", "file:///my%20folder/t/project"),
    ],
)
def test_a_url_loses_what_lets_its_reader_in(url: str, stripped: str) -> None:
    assert strip_url(url) == stripped


@pytest.mark.parametrize(
    ("channel", "stripped"),
    [
        ("conda-forge", "conda-forge"),
        ("https://u:p@host/t/secret/me/linux-64/a.conda", "https://host/me/linux-64/a.conda"),
        ("https://host/base/t/secret/me", "https://host/base/me"),
        ("https://host/t/secret", "https://host"),
        ("host/t/secret/me", "host/me"),
    ],
)
def test_a_channel_loses_its_token_too(channel: str, stripped: str) -> None:
    assert strip_channel(channel) == stripped


word = st.text(st.characters(exclude_characters="/?#@", codec="ascii"), min_size=1, max_size=8)


@given(st.sampled_from(["https", "http", "ftp"]), word, word, word, word)
def test_no_password_query_or_fragment_stays(
    scheme: str, user: str, password: str, query: str, path: str
) -> None:
    stripped = strip_url(f"{scheme}://{user}:{password}x@host/{path}?{query}#{password}")
    if not user.startswith("${"):
        assert stripped == f"{scheme}://host/{path}"
