"""One video to its labels: which views are scored, how scores are joined, how labels are written."""
