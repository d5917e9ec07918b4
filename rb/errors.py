"""The one exception that a user is meant to see."""


class UserError(Exception):
    """Something the user can put right: a setting, a file, a missing run.

    The message is a single line that says what is wrong, in which file or setting,
    and what to do about it. The commands print it and exit with code 2; anything
    else that escapes is a defect of `rb` and keeps its traceback.
    """

    def __str__(self) -> str:
        return " ".join(super().__str__().split())
