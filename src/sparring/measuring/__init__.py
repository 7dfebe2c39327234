"""Measuring what a training left: samples set against data, runs set against each other."""
