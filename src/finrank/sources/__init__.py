"""Where questions come from: FinQA files, their download, and the embedded sample."""
