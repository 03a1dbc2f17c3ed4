"""`envboot store`: set a bucket up, look into it, tidy it, serve a folder as one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from envboot.cli import console
from envboot.cli.options import complete_published
from envboot.errors import LISTED, StoreError, UsageError, name_some
from envboot.extras import require
from envboot.session import open_session
from envboot.store import open_store
from envboot.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envboot.fleet.verification import Verified
    from envboot.session import Session
    from envboot.store.protocol import Stat
    from envboot.store.steps import Step


@click.group()
def command() -> None:
    """Work with the bucket."""


def _read_life(ctx: click.Context, parameter: click.Parameter, value: str) -> int | None:
    del ctx, parameter
    if value == "never":
        return None
    if value.isdecimal() and int(value) > 0:
        return int(value)
    raise UsageError(f"Expected `--base-life` as a number of days or `never`, found `{value}`")


@command.command()
@click.argument("url")
@click.option(
    "--region",
    help="Where a new bucket is made, as `eu-central-1` or `europe-west3`."
    "  [default: as boto3 finds it; Google's `US`]",
)
@click.option(
    "--kms-key",
    metavar="KEY",
    help="Encrypt with this KMS key by default."
    "  [default: `kms-key` of `tool.envboot.s3` or `tool.envboot.gcs`]",
)
@click.option(
    "--tls-only/--no-tls-only",
    default=None,
    help="Deny requests without TLS.  [default: where the endpoint has TLS]",
)
@click.option(
    "--base-life",
    metavar="DAYS",
    default="90",
    show_default=True,
    callback=_read_life,
    help="Remove bases that were not used for so long, or `never`.",
)
@click.option(
    "--layer-life",
    metavar="DAYS",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Remove layers after so long.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--json", "as_json", is_flag=True, help="Print a stable JSON document.")
def init(
    *,
    url: str,
    region: str | None,
    kms_key: str | None,
    tls_only: bool | None,
    base_life: int | None,
    layer_life: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the bucket URL (`s3://bucket/prefix`, `gs://bucket/prefix`), if there is none, and set
    it up.

    Private, encrypted, and what nobody needs any more goes by itself. What is right already, and
    rules of others, stay as they are.
    """
    if not url.startswith(("s3:", "gs:")):
        raise UsageError(f"Expected a bucket such as `s3://bucket/prefix`, found `{url}`")
    session = open_session()
    order = _Order(
        url=url,
        region=region,
        kms_key=kms_key,
        tls_only=tls_only,
        base_days=base_life,
        layer_days=layer_life,
        dry_run=dry_run,
    )
    steps = []
    set_up = _set_up_gcs if url.startswith("gs:") else _set_up_s3
    for step in set_up(order, session):
        steps.append(step)
        if not as_json:
            console.say(f"{step.name:<13}  {step.outcome:<13}  {step.detail}")
    failed = [step for step in steps if step.outcome == "failed"]
    if as_json:
        console.print_json([asdict(step) for step in steps])
    elif not failed and not any(step.outcome.endswith(("changed", "change")) for step in steps):
        console.say("\nNothing to change")
    if failed:
        hints = list(dict.fromkeys(step.hint for step in failed if step.hint))
        hints = [*hints[:1], *(hint.removeprefix("Allow this identity ") for hint in hints[1:])]
        raise StoreError(
            f"Failed to set up `{url}`: {name_some([step.name for step in failed])}",
            causes=tuple(f"{step.name}: {step.detail}" for step in failed),
            hint=", ".join(hints) or None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Order:
    """What `envboot store init` was asked for; None is what settings say."""

    url: str
    region: str | None
    kms_key: str | None
    tls_only: bool | None
    base_days: int | None
    layer_days: int
    dry_run: bool


def _set_up_s3(order: _Order, session: Session) -> Iterator[Step]:
    require("aws", f"Bucket `{order.url}`")
    from envboot.store.s3.bucket import S3BucketSpec, ensure_bucket
    from envboot.store.s3.connection import S3Connection

    settings = session.settings.s3
    wanted = S3BucketSpec(
        region=order.region or settings.region,
        kms_key=order.kms_key or settings.kms_key,
        tls_only=order.tls_only,
        base_days=order.base_days,
        layer_days=order.layer_days,
    )
    connection = S3Connection(order.url, session.environment, settings)
    return ensure_bucket(connection, wanted, dry_run=order.dry_run)


def _set_up_gcs(order: _Order, session: Session) -> Iterator[Step]:
    require("gcp", f"Bucket `{order.url}`")
    from envboot.store.gcs.bucket import GcsBucketSpec, ensure_bucket
    from envboot.store.gcs.connection import GcsConnection

    if order.tls_only is not None:
        raise UsageError(
            "Cannot use `--tls-only` with a bucket of Cloud Storage",
            causes=("It has no such setting",),
            hint="Leave it out: whatever asks there by a `https://` URL has TLS",
        )
    settings = session.settings.gcs
    wanted = GcsBucketSpec(
        location=order.region,
        kms_key=order.kms_key or settings.kms_key,
        base_days=order.base_days,
        layer_days=order.layer_days,
    )
    connection = GcsConnection(order.url, session.environment, settings)
    return ensure_bucket(connection, wanted, dry_run=order.dry_run)


@command.command()
@click.argument("url")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 for any free one.")
def serve(url: str, port: int) -> None:
    """Serve the folder URL (`file:///folder`) on loopback until Ctrl-C.

    URLs that were signed for the same folder and port keep working.
    """
    import threading

    from envboot.store.local.store import LocalStore

    with LocalStore(url, port=port) as store:
        console.say(f"http://127.0.0.1:{store.serve().server_port}")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            console.say("Stopped", err=True)


@command.command()
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="Print a stable JSON document.")
def ls(url: str, as_json: bool) -> None:
    """List the objects in the bucket URL: age, size and key."""
    with open_store(url, open_session()) as store:
        found = list(store.list(""))
    if not found:
        # In S3 a prefix that was never used is an empty one.
        console.print_warning(
            f"`{url}` holds nothing: no launch has used it yet, or its name is another"
        )
    if as_json:
        console.print_json(
            [{"key": s.key, "size": s.size, "modified": s.modified.isoformat()} for s in found]
        )
        return
    for line in render_listing(found, datetime.now(timezone.utc)):
        console.say(line)


@command.command()
@click.argument("url")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rm(url: str, keys: tuple[str, ...], yes: bool) -> None:
    """Remove objects from the bucket URL; one that is not there is no error."""
    with open_store(url, open_session()) as store:
        if not yes:
            console.confirm(f"Remove {name_some(list(keys))} from `{url}`?")
        for key in keys:
            store.delete(key)


@command.command("verify")
@click.argument("targets", nargs=-1, metavar="[DIGEST|NAME]...", shell_complete=complete_published)
@click.option(
    "--store",
    metavar="URL",
    help="The bucket.  [default: `tool.envboot.store`, else a folder of this user]",
)
@click.option("--sign", is_flag=True, help="Sign each archive that is right, with `signing-key`.")
@click.option("--publish", is_flag=True, help="Put this machine's own where there is no archive.")
@click.option("--json", "as_json", is_flag=True, help="Print a stable JSON document.")
def verify_archives(
    *, targets: tuple[str, ...], store: str | None, sign: bool, publish: bool, as_json: bool
) -> None:
    """Install bases again on this machine, and compare every file with the published archives.

    A DIGEST is of an environment or a base, a NAME of a published environment (`NAME@3`, `NAME`);
    without any, all archives that can be installed here are compared. An archive that is right
    counts as your own (`trust = "own"`), and with `--sign` as your signers' (`trust = "signed"`).
    """
    from envboot.fleet.verification import find_all, find_target, verify
    from envboot.publish.trust import find_policy, find_signing_key

    session = open_session()
    policy, key = find_policy(session), find_signing_key(session) if sign else None
    if sign and not key:
        raise UsageError(
            "Cannot sign without a key",
            hint="Set `signing-key` in `[tool.envboot]` or `ENVBOOT_SIGNING_KEY`",
        )
    found: list[Verified] = []
    with open_store(store or session.store, session) as bucket:
        manifests = [
            find_target(text, bucket, session, warn=console.print_notes) for text in targets
        ] or find_all(bucket)
        for manifest in manifests:
            try:
                with console.task(f"Verified base {manifest.base_digest[7:19]}") as progress:
                    one = verify(
                        manifest,
                        bucket,
                        policy,
                        key=key,
                        publishes=publish,
                        progress=progress,
                    )
            except UsageError as error:
                if targets:
                    raise
                # Of another machine's own interpreter, for instance.
                console.print_warning(f"Passed over: {error.message}")
                continue
            found.append(one)
            if not as_json:
                console.say(f"{one.base}  {_tell(one)}")
    if as_json:
        console.print_json([_to_json(one) for one in found])
    wrong = [one for one in found if one.differences]
    if wrong:
        raise _refuse(wrong, bucket.url)
    if not manifests:
        console.say(f"No archive is published in `{bucket.url}`", err=True)


def _tell(one: Verified) -> str:
    if one.differences:
        return f"different: {one.differences[0]}"
    words = ["published" if one.published else "same"]
    if one.signature:
        words.append("signed before" if one.signed_before else "signed")
    return ", ".join(words)


def _to_json(one: Verified) -> dict[str, Any]:
    return {
        "base": one.base,
        "index": one.index,
        "outcome": "different" if one.differences else "published" if one.published else "same",
        "differences": [asdict(difference) for difference in one.differences],
        "signature": one.signature,
    }


def _refuse(wrong: list[Verified], url: str) -> StoreError:
    first = wrong[0]
    others = f", and {len(wrong) - 1} more are not either" if wrong[1:] else ""
    causes = [str(difference) for difference in first.differences[:LISTED]]
    rest = len(first.differences) - LISTED
    folder = f"base/{first.base.removeprefix('sha256:')}"
    return StoreError(
        f"The archive of base `{first.base}` is not what its packages give{others}",
        causes=(*causes, *([f"{rest} more"] if rest > 0 else ())),
        hint="Find out who wrote it, then remove it: "
        f"`envboot store rm {url} {folder}/index.json {folder}/env.tar.zst`",
    )


def render_listing(found: list[Stat], now: datetime) -> list[str]:
    """Return a line an object: age, size and key, in columns."""
    rows = [(console.age((now - s.modified).total_seconds()), _size(s.size), s.key) for s in found]
    return [f"{age:>5}  {size:>9}  {one_line(key)}" for age, size, key in rows]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
