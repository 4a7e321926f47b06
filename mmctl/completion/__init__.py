"""What TAB offers in the shell, without the imports of the command line."""
