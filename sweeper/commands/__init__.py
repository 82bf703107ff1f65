"""The commands of the command line, by topic; each topic enrols its own with `register`."""
