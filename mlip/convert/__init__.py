"""Models of other packages as potentials of this one."""
