"""From the scores of candidates to ranked answers: which are equal, which comes first, how sure that is."""
