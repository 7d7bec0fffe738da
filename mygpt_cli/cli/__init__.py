"""One file per command: parse, call, hand to ui."""
