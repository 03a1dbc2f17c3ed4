"""From a bare machine to an active environment: archive or installation, layer, one rename."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import Any, Dict, List

from . import fetch, wire
from .host import ERROR, WARNING, Host, find_text, write_json
from .install import check_python, install
from .wire import AgentError

with contextlib.suppress(ImportError):
    # A document without grants comes without it.
    from . import unpack


def boot(host: Host) -> int:
    """Make the environment active; returns the exit code. Safe to repeat and to kill anywhere."""
    os.umask(0o022)
    with host.locked("boot"):
        # A killed attempt may have filled the disk.
        _clear(host)
        code, source = wire.FAILED, ""
        try:
            source = _bring(host)
            code = wire.DEGRADED if host.errors else wire.READY
        except Exception as error:
            # Before anything is written about it.
            _clear(host)
            stage = [{"stage": "probe"}, *host.stages][-1]["stage"]
            host.errors.append({"stage": stage, "error": wire.line(error)})
        _finish(host, code, source)
        if code != wire.FAILED:
            # Only what has reached the disk may be trusted after a power failure.
            os.sync()
            write_json(host.state + "/unsynced.json", "")
        host.wait_for_reports()
        return code


def _clear(host: Host) -> None:
    """Remove what attempts have left that did not come to their end."""
    for name in os.listdir(host.envs):
        if name[0] == ".":
            shutil.rmtree(host.envs + "/" + name, ignore_errors=True)


def _finish(host: Host, code: int, source: str) -> None:
    """Write the result, last of all files, and tell everyone."""
    outcome = ("ready", "failed", "degraded")[code]
    result = {
        "outcome": outcome,
        "source": source,
        "instance": host.instance,
        "environment": host.digest,
        "base": host.manifest and wire.base_digest(host.manifest),
        "stages": host.stages,
        "errors": host.errors,
        "notes": host.notes,
    }
    write_json(host.state + "/result.json", result)
    last = [{"error": ""}, *host.errors][-1]
    ms = sum(stage["ms"] for stage in host.stages)
    fields = {**last, "source": source, "ms": ms}
    if code == wire.FAILED:
        text = "failed: " + last["error"]
        host.journal("failed", text, ERROR, **fields)
        host.notify(text)
    else:
        host.show("ready")
        text = "%s in %d ms, from %s" % (outcome, ms, source)
        host.journal("ready", text, **{**fields, "stage": "ready"})
        host.notify(text, "READY=1\n")
    host.report("result", result)
    if not host.root:
        # The unit's output goes to the console: what is left where the bucket cannot be reached.
        print("envboot:", text)


def _bring(host: Host) -> str:
    """Return where the environment came from: `present`, `archive` or `install`."""
    with host.stage("probe") as fields:
        read_documents(host)
        platform, machine = host.manifest["base"]["platform"], os.uname().machine
        if {"linux-64": "x86_64"}.get(platform, platform[6:]) != machine:
            raise AgentError("the environment is for %s, this machine is %s" % (platform, machine))
        host.report("started", {"environment": host.digest})
        found = _find_environment(host)
        fields["source"] = found and "present"
    if found:
        if os.path.realpath(host.link) != found:
            with host.stage("activate"):
                activate(host, found)
        return "present"
    staging = "%s/.%d.%d" % (host.envs, os.getpid(), time.time_ns())
    env, source = staging + "/env", "archive"
    os.makedirs(staging + "/home")
    if not _fetch_archive(host, env):
        source = "install"
        permit: Any = None
        may_publish = False
        if "permit" in host.grants or "put" in host.grants.get("archive", ()):
            from .main import load

            with contextlib.suppress(AgentError):
                permit = load(host, "permit")
                may_publish = permit.read(host)
        # What was refused may have filled the disk.
        shutil.rmtree(env, ignore_errors=True)
        with host.stage("install"):
            install(host, staging)
            if may_publish:
                permit.keep(host, env)
    layer: Any = host.manifest.get("layer")
    if layer:
        with host.stage("layer") as fields:
            data = fetch.read(host.grants["layer"]["get"])
            fields["bytes"] = len(data)
            unpack.unpack_layer(data, layer, env)
    with host.stage("verify"):
        check_python(host, env)
    with host.stage("activate"):
        name = host.digest[7:]
        if os.path.lexists(host.envs + "/" + name):
            name += ".%d" % time.time_ns()
        write_json(host.state + "/unsynced.json", host.boot_id)
        os.rename(env, host.envs + "/" + name)
        activate(host, host.envs + "/" + name)
    shutil.rmtree(staging, ignore_errors=True)
    return source


def _find_environment(host: Host) -> str:
    """Return the folder of a whole environment that is on this machine already, or nothing.

    What was written in an earlier boot, and never known to have reached the disk, may have
    lost its contents with the power: it does not count. Nor does it where the note itself was
    lost, or has become empty.
    """
    if find_text(host.state + "/unsynced.json") in ('""', '"%s"' % host.boot_id):
        for name in sorted(os.listdir(host.envs), reverse=True):
            if name.split(".")[0] == host.digest[7:]:
                return os.path.realpath(host.envs + "/" + name)
    return ""


def read_documents(host: Host) -> None:
    """Read what user-data brought, and the manifest from the bucket where it is too large.

    Raises:
        AgentError: the manifest is of an unknown version, or not the one that was promised.
    """
    host.read_grants()
    host.config = host.read_json("config")
    host.digest, manifest = host.config["digest"], host.read_json("manifest")
    if "manifest" in host.grants and _digest(manifest) != host.digest:
        manifest = wire.parse(fetch.read(host.grants["manifest"]["get"]))
        write_json(host.state + "/manifest.json", manifest)
    if _digest(manifest) != host.digest:
        raise AgentError("the manifest is %s, not %s" % (_digest(manifest), host.digest))
    host.manifest = manifest


def _digest(manifest: Dict[str, Any]) -> str:
    version = manifest.get("manifest_version")
    return wire.environment_digest(manifest) if version == wire.MANIFEST_VERSION else ""


def _fetch_archive(host: Host, env: str) -> bool:
    """Unpack the prebuilt archive; False, with the reason on record, where that cannot be."""
    grants = host.grants
    if "index" not in grants:
        return False
    pin = grants["index"].get("sha256")
    try:
        with host.stage("fetch") as fields:
            try:
                found = fetch.read(grants["index"]["get"], sha256=pin)
            except AgentError as error:
                if error.reason != "missing":
                    raise
                fields["source"] = error.reason
                return False
            index = wire.parse(found)
            unpack.check_index(index, wire.base_digest(host.manifest))
            fields["bytes"] = 0

            def done(size: int) -> None:
                fields["bytes"] += size
                host.show("fetch", fields["bytes"], index["size"])

            own = host.manifest["base"]["python"].get("executable", "")
            unpack.unpack_archive(grants["archive"]["get"], index, env, done, own)
            check_python(host, env)
            # `verify` compares the disk with it.
            with open(host.state + "/index.json", "wb") as stream:
                stream.write(found)
            return True
    except Exception as error:
        text = wire.line(error)
        host.errors.append({"stage": "fetch", "error": text})
        host.journal("archive-refused", text, WARNING, stage="fetch", error=text)
        return False


def activate(host: Host, folder: str) -> None:
    """Point the prefix at an environment: one rename; the one before is kept for rollback."""
    links: List[Any] = [(host.link, os.path.relpath(folder, host.opt))]
    if os.path.islink(host.link):
        links.insert(0, (host.opt + "/previous", os.readlink(host.link)))
    for link, target in links:
        new = link + ".new"
        if os.path.lexists(new):
            os.unlink(new)
        os.symlink(target, new)
        os.replace(new, link)
