"""Stage 04, the earlier approach: a model that writes answers. The same as `finrank generation`; see --help."""

from finrank.cli import run_script

if __name__ == "__main__":
    run_script("generation")
