# mypy: ignore-errors
# Its imports exist only where cloud-init is on the path.
"""Runs inside cloud-init's own library: what it makes of a user-data document.

Usage: `PYTHONPATH=<cloud-init> python judge.py FOLDER < DOCUMENT`; prints JSON: every part
(type, file name, text, schema errors), the merged cloud-config, the log's warnings, and what
the handlers wrote below FOLDER.
"""

import json
import logging
import pathlib
import sys

from cloudinit import handlers, helpers, safeyaml, util
from cloudinit.config.schema import SchemaValidationError, get_schema, validate_cloudconfig_schema
from cloudinit.handlers.boot_hook import BootHookPartHandler
from cloudinit.handlers.cloud_config import CloudConfigPartHandler
from cloudinit.handlers.shell_script import ShellScriptPartHandler
from cloudinit.settings import PER_INSTANCE
from cloudinit.user_data import UserDataProcessor

warnings = []


class Collect(logging.Handler):
    def emit(self, record):
        warnings.append(record.getMessage())


class Source:
    def get_instance_id(self):
        return "i-test"


class NoRun(BootHookPartHandler):
    """Writes the hook as the real one does; running it is another test's business."""

    def handle_part(self, data, ctype, filename, payload, frequency):
        if ctype not in handlers.CONTENT_SIGNALS:
            hooks.append(self._write_part(payload, filename))


logging.getLogger().addHandler(Collect(logging.WARNING))
folder = pathlib.Path(sys.argv[1])
paths = helpers.Paths({"cloud_dir": str(folder), "run_dir": str(folder / "run")}, Source())
hooks = []

processed = UserDataProcessor(paths).process(sys.stdin.buffer.read())
parts = []
for part in processed.walk():
    if part.get_content_maintype() == "multipart":
        continue
    text = util.fully_decoded_payload(part)
    row = {"type": part.get_content_type(), "name": part.get_filename(), "text": text}
    row["errors"] = []
    if row["type"] == "text/cloud-config":
        try:
            validate_cloudconfig_schema(safeyaml.load(text), get_schema(), strict=True)
        except SchemaValidationError as error:
            row["errors"] = [str(error)]
    parts.append(row)

known = helpers.ContentHandlers()
for handler in (
    CloudConfigPartHandler(paths=paths),
    ShellScriptPartHandler(paths=paths),
    NoRun(paths=paths, datasource=Source()),
):
    known.register(handler, initialized=True)
data = {"handlers": known, "handlerdir": str(folder), "data": None, "frequency": PER_INSTANCE}
data["handlercount"] = 0
data["excluded"] = []
for handler in known.initialized:
    handlers.call_begin(handler, None, PER_INSTANCE)
handlers.walk(processed, handlers.walker_callback, data)
merged = known["text/cloud-config"].cloud_buf
print(json.dumps({"parts": parts, "merged": merged, "hooks": hooks, "warnings": warnings}))
