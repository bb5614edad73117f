"""How fast the bus is, beside what else there is: one question per module, one table for all.

``python -m benchmarks`` (or ``make bench``) takes every figure and prints the table; the README here
says how each is taken and what it leaves out.
"""
