"""What no machine may write, whichever cloud it runs on: others obey it."""

OBEYED = (
    "launches/other/wanted-1.json",
    "launches/other/seats-0.json",
    "launches/other/secrets/permit-0.json",
    "names/team/00000002.json",
    "environments/00.json",
    "layers/00.tar.zst",
    "tools/00/uv",
    "packages/00.tar",
    "base/00/manifest.json",
    "reports/other/launch.json",
    "reports/other/ended.json",
)
"""Keys below the prefix."""
