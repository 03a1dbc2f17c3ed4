"""Closes the metadata service, which has user-data and roles, to the user of commands."""

from __future__ import annotations

import errno
import os
import socket
import subprocess

from .wire import AgentError

# EC2's and Google's share the first one. EC2: "Access instance metadata for an EC2 instance" (EC2
# User Guide). Google: "About VM metadata" (Compute Engine).
METADATA = ("169.254.169.254", "fd00:ec2::254", "fd20:ce::254")


def close(uid: int) -> None:
    """Close the metadata service to a user, by routing rules, and try that it is closed.

    IPAddressDeny= would depend on BPF, which systemd silently goes without; nftables and iptables
    are not on every image; and both would miss what the user starts elsewhere, by `at` say. A rule
    is about the user who made the socket (ip-rule(8), `uidrange`), needs Linux 4.17 and is gone
    after a reboot.

    Raises:
        AgentError: the user can reach it, or that cannot be ruled out.
    """
    for address in METADATA:
        family = "-6" if ":" in address else "-4"
        # Google's is the name server, too: port 53 stays open. 6 is TCP. No range may end
        # with 65535. When systemd-networkd starts it removes rules, but not those of the kernel.
        rule = "pref 1 to %s uidrange %d-%d ipproto 6 dport 54-65534 protocol kernel prohibit"
        command = ["ip", family, "rule", "add", *(rule % (address, uid, uid)).split()]
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
            )
            said = done.stdout.decode(errors="replace").strip()
        except OSError as error:
            said = str(error)
        found = _try(address, uid)
        if found not in (errno.EACCES, errno.EAFNOSUPPORT):
            answer = os.strerror(found) if found else "it answers"
            raise AgentError(
                "the metadata service cannot be closed to the command: %s port 80: %s; ip rule: %s;"
                " --imds allow leaves it open" % (address, answer, said or "added")
            )


def _try(address: str, uid: int) -> int:
    """Return the error number with which a user's connection fails, 0 where it does not."""
    # The kernel goes by who makes the socket.
    os.seteuid(uid)
    try:
        link = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        with link:
            link.settimeout(2)
            return link.connect_ex((address, 80))
    except OSError as error:
        return error.errno or -1
    finally:
        os.seteuid(0)
