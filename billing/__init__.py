"""Usage in, invoices and journal entries out. Knows money, not the topics of usage."""
