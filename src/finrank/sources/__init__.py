"""Where questions come from: FinQA files, predictions of other systems, and the embedded data."""
