"""Makes running servers ready for Tollbook: tables, the topic, the first tenant. Run it at will."""
