"""The one error of the demo: something it shows did not work."""


class DemoError(RuntimeError):
    """Says in one line what went wrong."""
