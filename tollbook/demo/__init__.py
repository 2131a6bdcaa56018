"""The demonstration: a year of real flights, from event to balanced ledger, and its recount."""
