"""The contestants of ``benchmarks.peers``: each trains and predicts in a process of its own."""
