"""What an inspection reads from built objects: probes, learning rates, cost."""
