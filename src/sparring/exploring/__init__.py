"""Using a trained generator: ways through its codes, styles mixed, directions to edit along, photos found in it."""
