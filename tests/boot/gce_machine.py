"""What makes a Debian a machine of Compute Engine: with cloud-init, or with a guest agent alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HOSTS = "127.0.0.1 localhost\n169.254.169.254 metadata.google.internal metadata\n"
DMI = "usr/lib/python3/dist-packages/cloudinit/dmi.py"
SMBIOS = """

def read_dmi_data(key):
    return {"system-product-name": "Google Compute Engine"}.get(key)
"""
"""What the firmware says on Compute Engine. A container has none of its own."""
RUNNER = """\
import os, subprocess, tempfile, urllib.request
url = "http://metadata.google.internal/computeMetadata/v1/instance/attributes/startup-script"
request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
with tempfile.TemporaryDirectory() as folder:
    path = folder + "/startup-script"
    with open(path, "wb") as file:
        file.write(urllib.request.urlopen(request).read())
    os.chmod(path, 0o700)
    done = subprocess.run([path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in done.stdout.splitlines():
        print("startup-script:", line)
    print("startup-script exit status", done.returncode)
"""
"""As Google's `google_metadata_script_runner startup`, which keeps no record of what it ran."""
UNIT = """\
[Unit]
Description=Google Compute Engine Startup Scripts
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /usr/local/lib/google/runner.py
KillMode=process
StandardOutput=journal+console
"""
"""As Google's own `google-startup-scripts.service`."""
WANTS = "[Unit]\nWants=google-startup-scripts.service\n"
AFTER = "[Unit]\nAfter=google-startup-scripts.service\n"


def compose_files(root: Path, *, cloud_init: bool) -> dict[str, bytes]:
    """Return the files by path, for an overlay over the root file system."""
    files = {"etc/hosts": HOSTS}
    if cloud_init:
        files["etc/cloud/cloud.cfg.d/95-datasource.cfg"] = "datasource_list: [GCE]\n"
        files[DMI] = (root / DMI).read_text("utf-8") + SMBIOS
    else:
        units = "etc/systemd/system"
        files["etc/cloud/cloud-init.disabled"] = ""
        files["usr/local/lib/google/runner.py"] = RUNNER
        files[f"{units}/google-startup-scripts.service"] = UNIT
        files[f"{units}/multi-user.target.d/google.conf"] = WANTS
        files[f"{units}/envboot-test.service.d/google.conf"] = AFTER
    return {path: text.encode() for path, text in files.items()}
