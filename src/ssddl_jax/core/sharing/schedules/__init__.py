"""Schedules: in which steps a platform makes and adds the words; the words are the same.

`choice` holds the record of each. A CPU works in tiles that fit its caches, an accelerator holder
by holder in few long steps.
"""
