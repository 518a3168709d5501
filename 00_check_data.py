"""Stage 00: read every FinQA example and report its faults. The same as `finrank check`; see --help."""

from finrank.cli import run_script

if __name__ == "__main__":
    run_script("check")
