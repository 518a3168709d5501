"""Stage 03: a reward for every candidate. The same as `finrank rewards`; see --help."""

from finrank.cli import run_script

if __name__ == "__main__":
    run_script("rewards")
