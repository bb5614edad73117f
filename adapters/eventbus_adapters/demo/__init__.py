"""The demo: a small application that takes in every airport of the world, and what went wrong with each.

Read it in this order: ``events`` (what happens), ``handlers`` (what is done about it), ``application`` (how
the bus is put together), ``account`` (the proof that nothing was lost).
"""
