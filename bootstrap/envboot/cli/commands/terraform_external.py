"""`envboot terraform-external`: user-data that Terraform renders in its plan.

The protocol of Terraform's `external` data source: one JSON object of texts on stdin, one on
stdout, and where it fails a message on stderr and an exit code that is not 0 (the documentation
of provider hashicorp/external, "External Program Protocol").
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import click

from envboot.cli import console
from envboot.cli.commands.render_userdata import find_manifest, name_launch, refuse_host
from envboot.cli.options import read_part
from envboot.command_secrets import (
    SecretOptions,
    read_secrets,
    refuse_places,
    refuse_values,
)
from envboot.errors import EnvbootError, UsageError, name_some
from envboot.session import open_session
from envboot.text import is_variable_name
from envboot.userdata import Job, LaunchPath

if TYPE_CHECKING:
    from envboot.manifest import Manifest
    from envboot.session import Session
    from envboot.store.protocol import Store
    from envboot.userdata.contents import Imds

KEYS = (
    "store",
    "manifest",
    "environment",
    "command",
    "env",
    "secrets",
    "parts",
    "on_interruption",
    "imds",
)
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """What a plan asks for: exactly one of `manifest`, a file, and `environment`.

    The latter is a digest, or a published environment: `NAME@latest`, `NAME@3`.
    """

    store: str
    manifest: str | None
    environment: str | None
    command: tuple[str, ...]
    env: dict[str, str]
    secrets: dict[str, str]
    parts: tuple[str, ...]
    on_interruption: str | None
    imds: Imds | None


@click.command("terraform-external")
def command() -> None:
    """Render user-data for Terraform's `external` data source: JSON on stdin, JSON on stdout.

    The query has `store` and one of `manifest`, a file, and `environment`, a published one
    (`NAME@latest`, `NAME@3`) or a digest that is in the bucket; `command` (words, or a JSON list),
    `env` (a JSON object), `secrets` (a JSON object of names and ARNs), `parts` (a JSON list of
    [TYPE:]FILE), `on_interruption` and `imds` (`allow` or `deny`) may be there.
    Machines ask the bucket as their role, so that nothing in the document ends, and the same query
    gives the same document.
    """
    try:
        answer = answer_query(parse_query(sys.stdin.read()), open_session())
    except EnvbootError as error:
        fail(error)
    console.say(json.dumps(answer, sort_keys=True))


def fail(error: EnvbootError) -> NoReturn:
    """Tell an error in one line, which Terraform shows as it is, and exit with its code."""
    text = ": ".join([error.message, *error.causes])
    hint = f" (hint: {error.hint})" if error.hint else ""
    console.say(f"error: {text}{hint}".replace("\n", " "), err=True)
    raise click.exceptions.Exit(error.exit_code)


def parse_query(text: str) -> Query:
    """Read what Terraform writes; raises UsageError."""
    found = _parse_json("the query", text)
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise UsageError("Expected a JSON object of texts on stdin, as Terraform writes it")
    # Terraform cannot leave a key out: what is empty is not there.
    query: dict[str, str] = {name: value for name, value in found.items() if value}
    unknown = sorted(query.keys() - set(KEYS))
    if unknown:
        raise UsageError(
            f"Expected no {name_some(unknown)} in the query", hint=f"Known are {name_some([*KEYS])}"
        )
    if "store" not in query:
        raise UsageError("Expected `store` in the query, found nothing")
    if ("manifest" in query) == ("environment" in query):
        raise UsageError("Expected one of `manifest` and `environment` in the query")
    environment = query.get("environment")
    if environment and not _DIGEST.fullmatch(environment) and "@" not in environment:
        raise UsageError(
            "Expected `environment` as `NAME@latest`, `NAME@3` or `sha256:…`, "
            f"found `{environment}`"
        )
    return Query(
        store=query["store"],
        manifest=query.get("manifest"),
        environment=environment,
        command=_parse_command(query.get("command", "")),
        env=_parse_texts("env", query.get("env", "{}")),
        secrets=_parse_texts("secrets", query.get("secrets", "{}")),
        parts=_parse_list("parts", query.get("parts", "[]")),
        on_interruption=query.get("on_interruption"),
        imds=_parse_imds(query.get("imds")),
    )


def answer_query(query: Query, session: Session) -> dict[str, str]:
    """Put what machines need into the bucket and return the document, and what is in it.

    Raises:
        EnvbootError: as `render-userdata`.
    """
    from envboot.cli import console
    from envboot.fleet.start import Delivery, deliver
    from envboot.publish.grants import Auth, Terms
    from envboot.store import open_store

    parts = [read_part(spec) for spec in query.parts]
    given = SecretOptions(specs=[f"{name}={place}" for name, place in query.secrets.items()])
    # A plan is the same wherever it is made: the project's settings have no part in it.
    alone = replace(session, settings=replace(session.settings, secrets=()))
    secrets = read_secrets(given, alone, variables=query.env, command=bool(query.command))
    refuse_values(secrets, what="what Terraform keeps", cloud=LaunchPath.TERRAFORM.cloud)
    refuse_places(secrets, owner="Terraform on AWS", cloud=LaunchPath.TERRAFORM.cloud)
    with open_store(query.store, session) as store:
        layer = None
        if query.manifest:
            manifest, layer = find_manifest(query.manifest, session)
        else:
            manifest = _fetch(store, query.environment or "", session)
        refuse_host(manifest, LaunchPath.TERRAFORM.value)
        launch = name_launch(manifest, Auth.ROLE)
        delivery = Delivery(
            # A plan must not change because a machine has published.
            terms=Terms(launch=launch, auth=Auth.ROLE, pins=False),
            path=LaunchPath.TERRAFORM,
            job=Job(
                command=query.command,
                environment=query.env,
                secrets=secrets.managed,
                watch=query.on_interruption is not None,
                hook=query.on_interruption,
                imds=query.imds,
            ),
            parts=parts,
        )
        document = deliver(
            manifest,
            layer,
            store,
            session,
            delivery,
            warn=console.print_notes,
        ).document
    return {
        "user_data_base64": document.payload.decode("ascii"),
        "environment_digest": manifest.environment_digest,
        "base_digest": manifest.base_digest,
        "launch": launch,
    }


def _fetch(store: Store, environment: str, session: Session) -> Manifest:
    from envboot.publish.environments import fetch_manifest, find_environment

    if "@" in environment:
        return find_environment(store, environment, session, warn=console.print_notes)[1]
    return fetch_manifest(store, environment)


def _parse_json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"Expected {name} in JSON, found `{text:.60}`") from error


def _parse_command(text: str) -> tuple[str, ...]:
    """Read a JSON list, or words as a shell splits them."""
    if text.startswith("["):
        return _parse_list("command", text)
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(
            f"Cannot split `command` into words: `{text}`", causes=(str(error),)
        ) from error


def _parse_imds(text: str | None) -> Imds | None:
    known: dict[str | None, Imds | None] = {None: None, "allow": "allow", "deny": "deny"}
    if text in known:
        return known[text]
    raise UsageError(f"Expected `imds` as `allow` or `deny`, found `{text:.60}`")


def _parse_list(name: str, text: str) -> tuple[str, ...]:
    found = _parse_json(f"`{name}`", text)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise UsageError(f"Expected `{name}` as a JSON list of texts, found `{text:.60}`")
    return tuple(found)


def _parse_texts(key: str, text: str) -> dict[str, str]:
    found = _parse_json(f"`{key}`", text)
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise UsageError(f"Expected `{key}` as a JSON object of texts, found `{text:.60}`")
    wrong = sorted(name for name in found if not is_variable_name(name))
    if wrong:
        raise UsageError(f"Expected names of variables in `{key}`, found {name_some(wrong)}")
    return found
