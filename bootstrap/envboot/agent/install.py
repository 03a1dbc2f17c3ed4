"""The miss path: an interpreter, wheels with uv, then byte code."""

from __future__ import annotations

import io
import os
import subprocess
import zipfile
from typing import Any, Dict, List

from . import fetch, wire
from .host import Host
from .wire import AgentError


def install(host: Host, staging: str) -> None:
    """Install the manifest's base into `staging`/env; `staging`/home has lists and caches.

    Raises:
        AgentError: a tool could not be had, or failed.
    """
    base = host.manifest["base"]
    wheels, prefix, own = base.get("wheels"), base["prefix"], base["python"].get("executable")
    for name, tool in base["tools"].items():
        bring_tool(host, staging + "/home", name, tool)
    inside: List[str] = []
    seen = staging
    if own:
        options = ["venv", "-q", "--no-config", "--no-project", "--relocatable", seen + "/env"]
        run_tool("uv", [seen + "/home/uv", *options, "--python", own], seen)
    else:
        from . import conda

        inside, seen = conda.create(host, staging)
    if wheels:
        host.show("install: %d wheels" % len(wheels))
        where = ("%(name)s==%(version)s", "%(name)s @ %(url)s")
        lines = [(where["url" in w] + " --hash=sha256:%(sha256)s") % w for w in wheels]
        write_lines(staging + "/home/wheels", lines)
        options = ["pip", "install", "-q", "--no-config", "--no-deps", "--require-hashes"]
        options += ["--break-system-packages", "--no-build", "--link-mode", "hardlink"]
        options += ["--index-strategy", "unsafe-best-match", "-r", seen + "/home/wheels"]
        indexes = sorted({wheel["index"] for wheel in wheels if "index" in wheel})
        if indexes and all("index" in wheel or "url" in wheel for wheel in wheels):
            # PyPI may be out of reach, and nothing is wanted from there.
            options.append("--default-index=" + indexes.pop())
        options += ["--index=" + index for index in indexes]
        options += ["--python", seen + "/env/bin/python"]
        run_tool("uv", [*inside, seen + "/home/uv", *options], seen)
    host.show("install: byte code")
    env = staging + "/env"
    # Without site, which runs what packages have in .pth files.
    options = ["-ISm", "compileall", "-q", "-j0", "-f", "--invalidation-mode=unchecked-hash"]
    # Python 3.8 has no `-s` and `-p`.
    options += ["-d", prefix + "/lib", env + "/lib"]
    # Its exit code says only that some file, a template say, is not Python: that is no fault.
    subprocess.run([own or env + "/bin/python", *options], capture_output=True, check=False)


def write_lines(path: str, lines: List[str]) -> None:
    """Write a list for a tool."""
    with open(path, "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")


def run_tool(name: str, command: List[str], seen: str, **user: Any) -> str:
    """Return what a command printed; AgentError, with its last words, when it failed.

    Its caches are in `seen`/home: hard links do not cross from one mount to another.
    """
    home = seen + "/home"
    environ = {"UV_CACHE_DIR": home, **os.environ, "HOME": home, "MAMBA_ROOT_PREFIX": home}
    done = subprocess.run(
        command,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        **user,
    )
    text = wire.without_query(done.stdout.decode(errors="replace")).strip()
    if done.returncode:
        # What micromamba gives as the reason is its last line of this kind.
        text = text.rpartition("critical libmamba ")[2][-900:]
        raise AgentError("%s failed (%d): %s" % (name, done.returncode, text))
    return text


def bring_tool(host: Host, folder: str, name: str, tool: Dict[str, Any]) -> None:
    """Write a pinned program into a folder, from the bucket or else from where it is published.

    It has its own name there: micromamba looks at that before it activates anything.

    Raises:
        AgentError: neither place has a file with the pinned sha256.
    """
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
    path = folder + "/" + name
    with open(path, "wb") as stream:
        stream.write(data)
    os.chmod(path, 0o755)


def check_python(host: Host, env: str) -> None:
    """Raise AgentError when the environment's interpreter does not start, or is another.

    What came from the bucket is not run as root. Of the machine's own interpreter that holds for
    what an archive has for it to read (pyvenv.cfg), so it starts by itself.
    """
    python, program = host.manifest["base"]["python"], env + "/bin/python"
    code, own = "import sys;print(sys.version.split()[0].strip('+'))", python.get("executable")
    found = os.path.realpath(program)
    if not own:
        from . import conda

        found = conda.ask(host, program, code)
    elif found == os.path.realpath(own):
        found = run_tool("python", [own, "-IBSc", code], env)
    if found != python["version"]:
        raise AgentError("its interpreter is %s, not %s" % (found, python["version"]))
