# SPDX-License-Identifier: Apache-2.0
"""Where functions begin and how long they are, by counting braces in C++ without its comments."""
import re

TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<mark>[^()\s]*)\(.*?\)(?P=mark)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\''
    r"|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.DOTALL | re.MULTILINE)
SCOPE = re.compile(r"(^|\s)(namespace|class|struct|union|enum|extern)\b")
NAME = re.compile(r"([~\w:]+|operator\s*\S+)\s*\(")


def blanked(text):
    """The same lines without comments, strings and preprocessor lines."""
    return TOKEN.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)


def lengths(text):
    """(name, first line, lines) of each function outside other functions."""
    code = blanked(text)
    stack, head, head_line, line = [], "", 1, 1
    for c in code:
        if c == "\n":
            line += 1
        if c == "{":
            inside = any(kind == "function" for kind, *_ in stack)
            kind = "block"
            if head.rstrip()[-1:] in ("=", ",", "("):
                kind = "value"  # `= {}` in a default argument: the head goes on behind it
            elif not inside and SCOPE.search(head) and "(" not in head.split(":")[0]:
                kind = "scope"
            elif not inside and "(" in head and "=" not in head.split("(")[0]:
                kind = "function"
            name = NAME.search(head)
            stack.append((kind, name.group(1) if name else "?", head_line, head))
            head = ""
        elif c == "}":
            kind, name, start, before = stack.pop() if stack else ("block", "", 0, "")
            if kind == "function":
                yield name, start, line - start + 1
            head = before + "{}" if kind == "value" else ""
        elif c == ";":
            head = ""
        else:
            if not head.strip():
                head_line = line
            head += c
