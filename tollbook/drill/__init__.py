"""`tollbook drill`: faults on purpose, on real servers, against a truth written down before."""
