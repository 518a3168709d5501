"""One file per command: the signature of its function is the command line and the Python API."""
