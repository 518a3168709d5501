"""Stage 02: candidate pools, the gold program and corrupted ones. The same as `finrank candidates`; see --help."""

from finrank.cli import run_script

if __name__ == "__main__":
    run_script("candidates")
