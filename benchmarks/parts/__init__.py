"""The parts of `benchmarks/run.py`, a module each, with the same four functions.

`plan(options)` lists the cases, dictionaries of JSON values that say what is measured;
`prepare(case, options, folder)` makes in `folder`, once, what several cases share;
`measure(case, options, folder)` returns what was found; `rows(records)` are lines of the table,
title to cell. The first imports nothing heavy; the next two run in a process of their own each, so
that memory is the case's and no library is warm from another.
"""
