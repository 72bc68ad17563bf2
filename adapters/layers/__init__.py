"""Layers in plain torch that both frameworks build."""
