"""Numbered migrations of ClickHouse and Postgres, applied in order of their names."""
