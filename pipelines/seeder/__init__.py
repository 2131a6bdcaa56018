"""The process that counts the history of meters made later: `python -m pipelines.seeder`."""
