"""Schedules: the order of steps in which a platform computes and adds PRG words.

Every schedule gives the same words. `choice` holds a record of each. A CPU works in tiles that fit
its caches; an accelerator works holder by holder, in few long steps.
"""
