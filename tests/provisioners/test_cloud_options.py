"""What a user sets for clouds, whichever it is."""

from __future__ import annotations

import pytest

from envboot_provisioners.option_values import split_cloud


@pytest.mark.parametrize(
    ("options", "imds"),
    [
        ({}, None),
        ({"imds": "allow"}, "allow"),
        ({"instance-profile": "worker"}, "allow"),
        ({"service-account": "default"}, "allow"),
        ({"instance-profile": "worker", "imds": "deny"}, "deny"),
        ({"region": "eu-central-1"}, None),
    ],
)
def test_who_gives_instances_a_role_gives_it_to_the_command(
    options: dict[str, str], imds: str | None
) -> None:
    choice, own = split_cloud({**options, "auth": "urls", "on-interruption": "true"})
    assert (choice.auth, choice.hook, choice.imds) == ("urls", "true", imds)
    assert own == {name: value for name, value in options.items() if name != "imds"}
