"""Small faults put into the product's core on purpose, to see whether a test fails: `make mutants`.

A mutant that no test notices is a hole in the tests, or a line that does nothing. Kept tools (mutmut, cosmic-ray) leave
out what survived here most often: a statement that is removed, a bare condition that is negated, a default in a class,
a constant of a module, and whatever a property does.
"""
