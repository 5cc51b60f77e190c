"""Words of a line, split as a POSIX shell would; nothing is expanded."""

from capsula.errors import UsageError

# A carriage return counts as a blank: variables written in CI files with Windows line ends carry them.
BLANKS = " \t\r\n"
# What a backslash protects between double quotes; before anything else it stands for itself.
ESCAPABLE = '"\\$`'


def split(text: str) -> list[str]:
    """The words of `text`: quotes and backslashes as in sh, without variables, patterns, `~` or comments.

    Raises UsageError for a quote that is never closed or a backslash at the very end. The message gives the
    position and never the text, which may hold a token.
    """
    words: list[str] = []
    word: list[str] = []
    inside = False  # an empty pair of quotes is a word, so an empty `word` doesn't say that there is none
    position, end = 0, len(text)
    while position < end:
        character = text[position]
        if character in BLANKS:
            if inside:
                words.append("".join(word))
                word.clear()
                inside = False
            position += 1
        elif character == "'":
            closing = text.find("'", position + 1)
            if closing < 0:
                raise _unclosed("'", position)
            word.append(text[position + 1 : closing])
            position, inside = closing + 1, True
        elif character == '"':
            position, inside = _double_quoted(text, position, word), True
        elif character == "\\":
            if position + 1 == end:
                raise UsageError("a backslash at the end has nothing to protect")
            if text[position + 1] != "\n":  # backslash, newline: the line goes on
                word.append(text[position + 1])
                inside = True
            position += 2
        else:
            start = position
            while position < end and text[position] not in " \t\r\n'\"\\":
                position += 1
            word.append(text[start:position])
            inside = True
    if inside:
        words.append("".join(word))
    return words


def _double_quoted(text: str, opening: int, word: list[str]) -> int:
    """Add what is between the double quotes to `word`; the position after the closing one."""
    position, end = opening + 1, len(text)
    while position < end:
        character = text[position]
        if character == '"':
            return position + 1
        if character == "\\" and position + 1 < end:
            following = text[position + 1]
            if following == "\n":
                position += 2
                continue
            if following in ESCAPABLE:
                character = following
                position += 1
        word.append(character)
        position += 1
    raise _unclosed('"', opening)


def _unclosed(quote: str, position: int) -> UsageError:
    return UsageError(f"the {quote} at character {position + 1} is never closed")
