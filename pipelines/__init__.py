"""Events in, usage out: dedupes, aggregates and cuts the log. Knows time, not money."""
