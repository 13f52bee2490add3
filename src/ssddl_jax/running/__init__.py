"""A run on a machine: its files, checkpoints, signals and processes, and how it resumes.

(Not called `run`: that is the public function.)
"""
