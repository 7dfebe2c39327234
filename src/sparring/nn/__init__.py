"""Layers and backbones that more than one domain uses. Knows no kind of data."""
