"""A server that is away: raised at the edges, waited out by whoever has the patience."""


class TransientError(RuntimeError):
    """A server did not answer; the same call may succeed later. Says which and what to do."""
