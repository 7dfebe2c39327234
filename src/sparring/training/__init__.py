"""Playing a game to the end."""
