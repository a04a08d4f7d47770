"""Exported models: which ways there are to run one on this machine, and which is the fastest."""
