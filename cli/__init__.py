"""The command line: each command parses, calls the library once, and shows what it returns."""
