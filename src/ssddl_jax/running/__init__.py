"""A run on a machine: files, checkpoints, signals, processes, and how it goes on after a stop.

(Not `run`: that is the public function.)
"""
