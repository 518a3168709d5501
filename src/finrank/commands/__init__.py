"""One file per pipeline stage: each reads a directory, calls the rooms below and writes a directory."""
