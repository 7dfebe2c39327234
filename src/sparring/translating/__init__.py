"""Files through a trained game that makes samples from others."""
