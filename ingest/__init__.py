"""HTTP in, Kafka out: accepts usage events and answers only when the broker has them."""
