"""Print one environment as a scan document, from inside its own interpreter.

Standard library only, Python 3.8 and later; nothing of envboot is imported. Metadata is read
from the files themselves: `importlib.metadata` takes several times as long. One bad file is a
problem in the document, never the end of the scan. URLs are printed as they are found:
`envboot.scan` strips their credentials.
"""
