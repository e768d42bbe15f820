"""The command line: one app, one file for each larger command."""
