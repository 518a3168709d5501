"""Stage 01: official FinQA files to questions, split by page. The same as `finrank prepare`; see --help."""

from finrank.cli import run_script

if __name__ == "__main__":
    run_script("prepare")
