"""The simulator in use: the `abm` command and what it runs."""
