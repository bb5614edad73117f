"""What touches the outside: the SQL store and the command line. Each part is imported where it is used."""
