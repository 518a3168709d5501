"""Where questions come from: FinQA files, their download, predictions of other systems, and the embedded data."""
