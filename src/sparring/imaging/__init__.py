"""Images as every domain that has some meets them: shown, saved, measured, described by features."""
