"""Trials for other processors, compilers and versions: `make machines`, `make sanitize`, `make versions`."""
