"""The embedded stack: real servers, started from wheels, on a bare machine."""
