"""What the Python suites share: the server as a process, raw requests, record batches, the ledger and its checker."""
