"""ClickHouse's HTTP interface over the in-process engine.

Several processes share one embedded engine through it, with the client they use in production.
"""
