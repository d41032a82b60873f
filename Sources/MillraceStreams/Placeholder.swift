// The target is filled in by its first file.
