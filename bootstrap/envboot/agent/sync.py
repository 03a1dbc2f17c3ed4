"""Brings a running machine to what its launch wants now: the same base, another local layer.

Each wanted document names the next one, so that a machine needs nothing but its grants to follow,
and nobody has to reach it. It is signed with a key of the launch: what it says is done as root.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import signal
import subprocess
import time
from typing import Any, Dict, List

from . import fetch, keygen, tar, unpack, wire
from .boot import activate, read_documents
from .host import INFO, WARNING, Host, find_text, write_json
from .install import check_python
from .main import load
from .pack import LAYER_LIST
from .wire import AgentError

# Seconds between two looks; after the URL has ended, which nothing here can mend.
PAUSE, LATER = 2.0, 60.0


def main(host: Host, parent: int = 0) -> int:
    """Look for what is wanted until this is stopped, or the process that is `parent` has ended."""
    read_documents(host)
    if "wanted" not in host.grants:
        return 0
    _resume(host)
    chain: List[Dict[str, Any]] = []
    url, trouble, tried = host.grants["wanted"]["get"], "", 0
    while not parent or os.getppid() == parent:
        pause = PAUSE
        try:
            while True:
                document = read_wanted(
                    fetch.read(url),
                    chain[-1]["number"] if chain else 0,
                    host.grants["wanted"].get("signer", ""),
                )
                url = place(document["next"], host.grants["wanted"]["get"])
                chain.append(document)
        except Exception as error:
            reason = getattr(error, "reason", "")
            text = "sync: " + wire.line(error)
            if reason == "expired":
                text, pause = "sync: the URL has ended: nothing more can be sent here", LATER
            if reason in ("missing", "forbidden"):
                # S3 denies a missing key to whoever may not list.
                trouble = ""
            elif text != trouble:
                trouble = text
                host.journal("stage", text, WARNING, stage="sync", error=wire.line(error))
                number = re.search(r"wanted-(\d+)\.json", url)
                if number and not reason and isinstance(error, AgentError):
                    # Nobody will be told of it otherwise, and whoever sent it waits.
                    host.report("synced", {"number": int(number[1]), "error": wire.line(error)})
        if chain and chain[-1]["number"] != tried:
            _move_end(host, chain)
            tried = chain[-1]["number"]
            _follow(host, chain)
        end = time.monotonic() + pause
        while time.monotonic() < end and (not parent or os.getppid() == parent):
            time.sleep(0.2)
    return 0


def _move_end(host: Host, chain: List[Dict[str, Any]]) -> None:
    """Note until when this machine may live, where the client has moved that."""
    ends = [each["end"] for each in chain if "end" in each]
    if ends:
        document = {"launch": host.grants["launch"], "end": ends[-1]}
        write_json(host.state + "/moved.json", document)


def read_wanted(data: bytes, after: int, signer: str) -> Dict[str, Any]:
    """Read a wanted document; AgentError unless it is one that `signer` signed, above `after`."""
    document = wire.parse(data)
    signature = document.pop("signature", None)
    if not isinstance(signature, str):
        raise AgentError("a wanted document without a signature")
    message, signers = wire.canonical(document), "* " + signer
    if not keygen.is_signed(message, signature.encode(), signers, keygen.DESIRED_STATE):
        raise AgentError("the signature is not the client's")
    return vet_wanted(document, after)


def vet_wanted(document: Dict[str, Any], after: int) -> Dict[str, Any]:
    """Return the document; AgentError unless it has every member, and a number above `after`."""
    found = [document.get(name) for name in ("number", "digest", "restart", "manifest", "next")]
    kinds: Any = (int, str, bool, dict, dict)
    grants = [*found[3:], document.get("layer", {"get": ""})]
    if [*map(type, found)] != [*kinds] or not all(
        isinstance(grant, dict) and isinstance(grant.get("get"), str) for grant in grants
    ):
        raise AgentError("not a wanted document: %.99r" % document)
    if type(document.get("end", 0)) is not int:
        raise AgentError("not a wanted document: end %.99r" % document["end"])
    # Directories are found by it.
    if not re.fullmatch("sha256:[0-9a-f]{64}", document["digest"]):
        raise AgentError("not a wanted document: digest %.99r" % document["digest"])
    # Each is above the one before it, or a document that names itself would be followed for ever.
    if document["number"] <= after:
        raise AgentError("not a wanted document: number %d after %d" % (document["number"], after))
    return document


def place(grant: Dict[str, str], first: str) -> str:
    """Return a grant's URL; AgentError unless it is below the bucket and prefix of `first`.

    `first` is the URL of the launch's first document; a mere path is of the same server.
    """
    url = grant["get"]
    if url[:1] == "/":
        url = "/".join(first.split("/")[:3]) + url
    root = first.partition("?")[0].rpartition("/launches/")[0] + "/"
    key = url.partition("?")[0][len(root) :]
    # No part begins with a dot, or is written in a way that only the server resolves.
    if not url.startswith(root) or not re.fullmatch(r"(?:[\w-][\w.-]*/)+[\w-][\w.-]*", key):
        raise AgentError("%.200s is not below %s" % (wire.without_query(url), root))
    return url


def _read_done(host: Host) -> Dict[str, Any]:
    """Return what was brought here last, empty where that was for another launch."""
    done: Dict[str, Any] = host.read_json("synced")
    return done if done.get("launch") == host.grants["launch"] else {}


def _resume(host: Host) -> None:
    """After a reboot, which began with what user-data names, go on with what was wanted last."""
    done = _read_done(host)
    if not done or done["boot"] == host.boot_id:
        return
    with host.locked("boot"):
        found = _find(host, done["environment"])
        if found and os.path.realpath(host.link) != found:
            activate(host, found)
            _restart(host)


def _follow(host: Host, chain: List[Dict[str, Any]]) -> None:
    """Make the newest wanted environment active, and tell how that went."""
    start, wanted, done = time.monotonic(), chain[-1], _read_done(host)
    number, rebooted = wanted["number"], done.get("boot", host.boot_id) != host.boot_id
    pending = [each for each in chain if each["number"] > done.get("number", 0)]
    report: Dict[str, Any] = {"number": number}
    level, host.digest = INFO, wanted["digest"]
    try:
        is_new = _bring(host, wanted, {each["digest"] for each in chain})
        if host.config.get("command"):
            # What the command starts from now on runs the new code; it may not be started anew.
            load(host, "work").prepare(host)
        if any(each.get("interrupt") is True for each in pending):
            interrupt(host)
        if any(each["restart"] for each in pending) or (rebooted and is_new):
            _restart(host)
        report["environment"] = host.digest
        report["ms"] = int(1000 * (time.monotonic() - start))
        text = "sync: wanted %d is active after %d ms" % (number, report["ms"])
    except Exception as error:
        report["error"], level = wire.line(error), WARNING
        text = "sync: wanted %d: %s" % (number, report["error"])
    fields = {name: report[name] for name in report if name != "environment"}
    host.journal("stage", text, level, **{**fields, "stage": "sync"})
    host.notify(text)
    if pending or "error" in report:
        host.report("synced", report)
        # Only then is it done: what was not told would be waited for.
        host.wait_for_reports()
    if "error" not in report:
        document = {"launch": host.grants["launch"], "number": number, "boot": host.boot_id}
        write_json(host.state + "/synced.json", {**document, "environment": host.digest})
        _settle(host)


def _bring(host: Host, wanted: Dict[str, Any], known: "set[str]") -> bool:
    """Make an environment active, made beside the others; False where it was already."""
    with host.locked("boot"):
        for name in os.listdir(host.envs):
            # Of an earlier attempt that was killed.
            if name[0] == ".":
                shutil.rmtree(host.envs + "/" + name, ignore_errors=True)
        found = _find(host, wanted["digest"]) or _make(host, wanted, known)
        if os.path.realpath(host.link) == found:
            return False
        activate(host, found)
        return True


def _find(host: Host, digest: str) -> str:
    """Return the folder of an environment that is here, and was not written in another boot."""
    if find_text(host.state + "/unsynced.json") in ('""', '"%s"' % host.boot_id):
        for name in sorted(os.listdir(host.envs), reverse=True):
            if name.split(".")[0] == digest[7:]:
                return os.path.realpath(host.envs + "/" + name)
    return ""


def _make(host: Host, wanted: Dict[str, Any], known: "set[str]") -> str:
    """Make the environment of hard links to the active one, with the new layer for the old."""
    manifest = wire.parse(fetch.read(place(wanted["manifest"], host.grants["wanted"]["get"])))
    version = manifest.get("manifest_version")
    if version != wire.MANIFEST_VERSION or wire.environment_digest(manifest) != wanted["digest"]:
        raise AgentError("the manifest is not the one that is wanted")
    if wire.base_digest(manifest) != wire.base_digest(host.manifest):
        raise AgentError("another base is wanted")
    layer: Any = manifest.get("layer")
    url = place(wanted["layer"], host.grants["wanted"]["get"]) if layer else ""
    data = fetch.read(url) if layer else b""
    source, own = os.path.realpath(host.link), host.config["digest"]
    # After a rollback by hand it may be one of an earlier launch, with another base.
    if "sha256:" + os.path.basename(source).split(".")[0] not in {own, *known}:
        source = _find(host, own)
    if not source:
        raise AgentError("the active environment is not one of this launch")
    staging = "%s/.%d.%d" % (host.envs, os.getpid(), time.time_ns())
    env = staging + "/env"
    os.mkdir(staging)
    copied = subprocess.run(["cp", "-al", source, env], capture_output=True, check=False)
    if copied.returncode:
        raise AgentError("cp: " + copied.stderr.decode(errors="replace").strip()[-300:])
    is_own = os.path.basename(source).split(".")[0] == own[7:]
    removed = remove_layer(env, listed=is_own and "layer" in host.manifest)
    if layer:
        unpack.unpack_layer(data, layer, env)
    refuse_returning(env, layer or {})
    _refuse_lost(env, [path for path in removed if not os.path.lexists(env + "/" + path)])
    check_python(host, env)
    _record(host, wanted["digest"], {"layer": layer, "get": url})
    folder: str = host.envs + "/" + wanted["digest"][7:]
    if os.path.lexists(folder):
        # Of another boot: not known to be whole.
        folder += ".%d" % time.time_ns()
    write_json(host.state + "/unsynced.json", host.boot_id)
    os.rename(env, folder)
    shutil.rmtree(staging, ignore_errors=True)
    return folder


def _record(host: Host, digest: str, sent: Dict[str, Any]) -> None:
    """Note the layer of an environment that is whole, beside those of the others that are here.

    `verify` compares the disk with it, after a rollback or a return to an earlier one too.
    """
    here = {"sha256:" + name.split(".")[0] for name in os.listdir(host.envs)}
    noted = {each: note for each, note in host.read_json("sent").items() if each in here}
    write_json(host.state + "/sent.json", {**noted, digest: sent}, 0o600)


def remove_layer(env: str, listed: bool) -> List[str]:
    """Remove the files of a layer, and the folders that only they kept; returns the files.

    An empty folder could still be imported, as a name space package.
    """
    if not os.path.lexists(env + "/" + LAYER_LIST):
        if listed:
            raise AgentError("the layer that is here has no list of its files")
        return []
    folders = set()
    with contextlib.closing(tar.Tree(env)) as tree:
        paths = read_list(tree)
        for path in paths:
            try:
                tree.remove(path)
            except OSError as error:
                raise AgentError(
                    "the layer that is here cannot be removed: %r: %s" % (path, error)
                ) from error
            folder = os.path.dirname(path)
            while folder and folder not in folders:
                folders.add(folder)
                folder = os.path.dirname(folder)
        # The deepest first.
        for folder in sorted(folders, reverse=True):
            above, name = tree.locate(folder)
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=above)
    return paths


def read_list(tree: tar.Tree) -> List[str]:
    """Return the paths that a layer says are its own.

    Raises:
        AgentError: the list is a link, or one of them leads out of the prefix.
    """
    folder, name = tree.locate(LAYER_LIST)
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
        with open(descriptor, "rb") as stream:
            paths = [os.fsdecode(line) for line in stream.read().splitlines()]
    except OSError as error:
        raise AgentError(
            "the layer that is here has a list that cannot be read: %s" % error
        ) from error
    for path in paths:
        tar.check(path)
    return paths


def refuse_returning(env: str, layer: Dict[str, Any]) -> None:
    """Raise AgentError where an earlier layer had the place of a conda package that is gone."""
    brought = [project["name"] for project in layer.get("projects", ())]
    for name in sorted(map(os.path.basename, glob.glob(env + "/lib/envboot/replaced/*"))):
        if name not in brought:
            raise AgentError("%s, which the base brings too, would be missing" % name)


def _refuse_lost(env: str, paths: List[str]) -> None:
    """Raise AgentError where the base had one of these files until a layer replaced it."""
    paths = [path for path in paths if not path.endswith(".pyc")]
    records = glob.glob(env + "/lib/python*/site-packages/*.dist-info/RECORD")
    records += glob.glob(env + "/conda-meta/*.json")
    for record in records if paths else []:
        with open(record, "rb") as stream:
            text = b"\n" + stream.read()
        site = os.path.dirname(os.path.dirname(record))
        for path in paths:
            short = os.path.relpath(env + "/" + path, site)
            if os.fsencode("\n%s," % short) in text or os.fsencode('"%s"' % path) in text:
                raise AgentError("%s, which the base brings too, would be missing" % path)


def _restart(host: Host) -> None:
    """Have the command started anew by whoever runs it; there may be none."""
    text = find_text(host.run + "/run.pid")
    if not text.isdigit():
        return
    with contextlib.suppress(OSError), open("/proc/%s/cmdline" % text, "rb") as stream:
        # Its number may have been given to another process since.
        if os.fsencode(host.opt + "/lib") in stream.read().split(b"\0"):
            os.kill(int(text), signal.SIGHUP)


def interrupt(host: Host) -> None:
    """Send SIGINT to the command's process group, as a terminal does; there may be none."""
    runner = find_text(host.run + "/run.pid")
    for name in os.listdir("/proc"):
        # pid (name) state parent group: proc(5)
        fields = find_text("/proc/%s/stat" % name).rpartition(")")[2].split()
        if name.isdigit() and fields[1:3] == [runner, name]:
            # As its user: a unit of root's that could signal anybody would have to be trusted.
            words = ["/bin/sh", "-c", "kill -s INT -- -" + name]
            user = {} if host.root else load(host, "run").find_user(host)
            subprocess.run(words, check=False, **user)


def _settle(host: Host) -> None:
    """Have all on the disk, and remove what is neither active nor the one before it.

    What user-data names stays too: the next boot begins with it.
    """
    links = (host.link, host.opt + "/previous")
    with host.locked("boot"):
        # Here: while this waited another one may have become active.
        wanted = {os.path.basename(os.path.realpath(link)) for link in links}
        for name in os.listdir(host.envs):
            if name not in wanted and name.split(".")[0] not in ("", host.config["digest"][7:]):
                gone = "%s/.gone.%d.%d" % (host.envs, os.getpid(), time.time_ns())
                os.rename(host.envs + "/" + name, gone)
                shutil.rmtree(gone, ignore_errors=True)
        os.sync()
        write_json(host.state + "/unsynced.json", "")
