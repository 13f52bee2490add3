"""What `data` may name: the known datasets, and the kinds of paths with their readers."""

_GET = "put {0}.npz, or its four IDX files in a folder {0}/, in the folder that SSDDL_DATA names"
DATASETS = {  # name: how to get it
    "mnist-small": "comes with the package",
    "mnist": _GET.format("mnist") + " (and mnist-writers.npz beside it for partition 'writers')",
    "fashion-mnist": _GET.format("fashion-mnist"),
    "digits": "comes with scikit-learn: install ssddl-jax[digits]",
}
READERS = {  # kind of path: its `Reader`; the first that accepts a path reads it
    "an .npz": "ssddl_jax.data.files:NPZ",
    "a folder of IDX files": "ssddl_jax.data.files:IDX",  # any folder; it names missing files
}
WORKS = f"{', '.join(DATASETS)}, or a path to {' or '.join(READERS)}"
