"""Errors, by what a user has to fix. Every message says what to do next."""


class EvertuneError(Exception):
    """An error that a user can act on; `exit_status` is the exit status of the command line."""

    exit_status = 1


class ConfigError(EvertuneError):
    """The recipe, its overrides or the environment are wrong.

    Args:
        problems: all problems, each `path: what is wrong; what to do`.
        source: the recipe file, for the message.
    """

    exit_status = 2

    def __init__(self, problems: str | list[str], source: str | None = None) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        self.source = source
        super().__init__(self.problems, source)

    def __str__(self) -> str:
        if len(self.problems) == 1 and self.source is None:
            return self.problems[0]
        where = f" in {self.source}" if self.source else ""
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return "\n".join([f"{count}{where}:", *(f"  {problem}" for problem in self.problems)])


class DataError(EvertuneError):
    """A source, a row or a table is missing, broken or refused by the contract."""

    exit_status = 3


class TrainingError(EvertuneError):
    """The model cannot be built, trained or scored."""

    exit_status = 4


class SettingsError(TrainingError):
    """Training with these settings fails here: the loss diverges, or memory is short. Other settings may work."""


class RegistryError(EvertuneError):
    """The state of MLflow, the ledger or an alias does not allow the step."""

    exit_status = 5
