"""Video files to scores: the modules that a repository carries for `trust_remote_code`, with flat imports only."""
