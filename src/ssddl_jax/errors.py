"""The one error that users cause: a request that is impossible or malformed."""


class ConfigError(ValueError):
    """A configuration that cannot be run; one line: the field, its value and what would work.

    `value` None: the fault is not in a value, as where one is missing. Raised before anything is
    compiled or written; the command line turns it into exit status 2.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field = field
        self.value = value
        self.remedy = " ".join(remedy.split())
        super().__init__(f"{field}{'' if value is None else f' = {value}'}: {self.remedy}")
