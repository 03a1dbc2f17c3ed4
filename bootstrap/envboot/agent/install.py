"""The miss path: conda packages with micromamba, wheels with uv, then byte code."""

from __future__ import annotations

import io
import os
import subprocess
import zipfile
from typing import Any, Dict, List

from . import fetch, tar, wire
from .host import Host
from .wire import AgentError


def install(host: Host, staging: str) -> None:
    """Install the manifest's base into `staging`/env; `staging`/home has lists and caches.

    Conda writes the prefix into its files, so micromamba and uv must see the environment at its
    final place: a mount name space of their own shows them `staging` there, and nobody else.

    Raises:
        AgentError: a tool could not be had, or failed.
    """
    base = host.manifest["base"]
    conda, wheels, prefix = base.get("conda"), base.get("wheels"), base["prefix"]
    tools = {name: ensure_tool(host, name, tool) for name, tool in base["tools"].items()}
    inside: List[str] = []
    seen = staging
    if base["python"]["source"] == "conda":
        seen = os.path.dirname(prefix)
        os.makedirs(seen, exist_ok=True)
        script = 'mount --bind "$0" "$1" && shift && exec "$@"'
        inside = ["unshare", "-m", "sh", "-ec", script, staging, seen]
    home = seen + "/home"
    # Caches are inside the mount: hard links do not cross from one mount to another.
    environ = {"UV_CACHE_DIR": home, **os.environ, "HOME": home, "MAMBA_ROOT_PREFIX": home}
    if conda:
        host.show("install: %d conda packages" % len(conda))
        if "packages" in host.grants:
            # What wants a login at its channel comes from the bucket, at `host/path` of its URL.
            packages = memoryview(fetch.read(host.grants["packages"]["get"]))
            tar.extract(packages, staging + "/home")
        lines = ["@EXPLICIT"]
        for package in conda:
            url = package["url"]
            file = "/home" + url.split(":/")[-1]
            if os.path.exists(staging + file):
                url = "file://" + seen + file
            mark = "#sha256:%(sha256)s" if "sha256" in package else "#%(md5)s"
            lines.append(url + mark % package)
        _write(staging + "/home/conda", lines)
        options = ["create", "--no-rc", "-y", "-q", "-p", prefix, "-f", home + "/conda"]
        _run("micromamba", [*inside, tools["micromamba"], *options], environ)
    else:
        options = ["venv", "-q", "--no-config", "--no-project", "--relocatable", seen + "/env"]
        options += ["--python", base["python"]["executable"]]
        _run("uv", [tools["uv"], *options], environ)
    if wheels:
        host.show("install: %d wheels" % len(wheels))
        lines = []
        for wheel in wheels:
            where = "%(name)s @ %(url)s" if "url" in wheel else "%(name)s==%(version)s"
            lines.append((where + " --hash=sha256:%(sha256)s") % wheel)
        _write(staging + "/home/wheels", lines)
        options = ["pip", "install", "-q", "--no-config", "--no-deps", "--require-hashes"]
        options += ["--break-system-packages", "--no-build", "--link-mode", "hardlink"]
        options += ["--index-strategy", "unsafe-best-match", "-r", home + "/wheels"]
        indexes = sorted({wheel["index"] for wheel in wheels if "index" in wheel})
        if indexes and all("index" in wheel or "url" in wheel for wheel in wheels):
            # PyPI may be out of reach, and nothing is wanted from there.
            options.append("--default-index=" + indexes.pop())
        options += ["--index=" + index for index in indexes]
        options += ["--python", seen + "/env/bin/python"]
        _run("uv", [*inside, tools["uv"], *options], environ)
    host.show("install: byte code")
    env = staging + "/env"
    options = ["-m", "compileall", "-q", "-j0", "-f", "--invalidation-mode=unchecked-hash"]
    options += ["-s", env, "-p", prefix, env + "/lib"]
    # Its exit code says only that some file, a template say, is not Python: that is no fault.
    subprocess.run([env + "/bin/python", *options], capture_output=True, check=False)


def _write(path: str, lines: List[str]) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")


def _run(name: str, command: List[str], environ: Any) -> str:
    """Return what a command printed; AgentError, with its last words, when it failed."""
    done = subprocess.run(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    text = wire.without_query(done.stdout.decode(errors="replace")).strip()
    if done.returncode:
        raise AgentError("%s failed (%d): %s" % (name, done.returncode, text[-900:]))
    return text


def ensure_tool(host: Host, name: str, tool: Dict[str, Any]) -> str:
    """Return the path of a pinned program, from the bucket or else from where it is published.

    Raises:
        AgentError: neither place has a file with the pinned sha256.
    """
    # Of this boot: what was written just before the power went may be empty.
    path = "%s/%s-%s.%s" % (host.state, name, tool["sha256"][:16], host.boot_id)
    if os.path.exists(path):
        return path
    reasons = []
    for url in (host.grants.get("tools", {}).get(tool["sha256"]), tool["url"]):
        if url:
            try:
                data = fetch.read(url, sha256=tool["sha256"])
                break
            except AgentError as error:
                reasons.append(str(error))
    else:
        raise AgentError("%s: %s" % (name, "; ".join(reasons)))
    if data[:2] == b"PK":
        # The uv on PyPI is a wheel with the program in its scripts.
        wheel = zipfile.ZipFile(io.BytesIO(data))
        data = wheel.read(next(m for m in wheel.namelist() if m.endswith("/scripts/" + name)))
    new = path + ".new"
    with open(new, "wb") as stream:
        stream.write(data)
    os.chmod(new, 0o755)
    os.replace(new, path)
    return path


def check_python(env: str, wanted: str) -> None:
    """Raise AgentError when the environment's own interpreter does not start, or is another."""
    program = "import sys;print('%d.%d.%d'%sys.version_info[:3])"
    found = _run("python", [env + "/bin/python", "-IBS", "-c", program], None)
    if found != wanted:
        raise AgentError("its interpreter is %s, not %s" % (found, wanted))
