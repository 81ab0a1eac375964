"""Command-line programs: flags, then a configuration, then the library, then files."""
