"""The command line: wires the packages together and decides nothing."""
