"""The command line: `dstack`."""
