"""How a document reaches the machine, and what each way takes. Pure."""

from __future__ import annotations

from enum import Enum

from envboot.userdata.encoding import Rules


class LaunchPath(Enum):
    """How a document reaches the machine.

    Limits: EC2 User Guide, "Run commands at launch" (16 KB before base64); Compute Engine,
    "About VM metadata" (256 KB a value).
    """

    EC2 = "ec2"
    EC2_BASE64 = "ec2-base64"
    TERRAFORM = "terraform"
    GCE = "gce"
    GCE_STARTUP_SCRIPT = "gce-startup-script"
    NOCLOUD = "nocloud"
    QEMU = "qemu"
    LOCAL = "local"

    @property
    def rules(self) -> Rules:
        """What this path takes."""
        return _RULES[self]

    @property
    def is_google(self) -> bool:
        """Whether such machines have Google's metadata server."""
        return self in (LaunchPath.GCE, LaunchPath.GCE_STARTUP_SCRIPT)

    @property
    def cloud(self) -> str | None:
        """Whose roles such machines have: `aws`, `gcp`, or None."""
        if self.is_google:
            return "gcp"
        known = (LaunchPath.EC2, LaunchPath.EC2_BASE64, LaunchPath.TERRAFORM)
        return "aws" if self in known else None

    @property
    def notices(self) -> dict[str, str]:
        """Whose notices such machines look for, in `watch` of config.json; EC2's go unsaid."""
        return {"kind": "gcp"} if self.is_google else {}


_RULES = {
    LaunchPath.EC2: Rules(limit=16_384),
    LaunchPath.EC2_BASE64: Rules(limit=16_384, base64="always"),
    LaunchPath.TERRAFORM: Rules(limit=16_384, base64="always"),
    LaunchPath.GCE: Rules(limit=262_144, limit_encoded=True, base64="gzip"),
    LaunchPath.GCE_STARTUP_SCRIPT: Rules(limit=262_144, gzip=False, mime=False),
    LaunchPath.NOCLOUD: Rules(),
    LaunchPath.QEMU: Rules(),
    LaunchPath.LOCAL: Rules(gzip=False, mime=False),
}
