"""The changes that mutate.py makes in a C file: one operator, constant, guard or call at a time.

    for mutant in mutations.of(text):
        changed = mutant.apply(text)

Only the bodies of functions are changed, which begin with a brace alone in the first column. Comments,
strings, preprocessor lines and the arguments of what only logs or traces stay as they are. Whether an
operator has one operand or two is seen from the blanks around it: clang-format puts them there. The
number of lines stays the same.
"""

import collections
import re

TOKEN = re.compile(r"""
    (?P<skip>/\*.*?\*/|//[^\n]*|^[ \t]*\#(?:[^\n\\]|\\.)*)
  | (?P<text>L?"(?:[^"\\\n]|\\.)*"|L?'(?:[^'\\\n]|\\.)*')
  | (?P<number>\.?\d(?:[eEpP][+-]|[\w.])*)
  | (?P<word>[A-Za-z_]\w*)
  | (?P<sign>->|\+\+|--|<<=|>>=|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|\.\.\.|[^\s\w])
""", re.X | re.S | re.M)

# With an operand on either side. Where there are several changes, one is drawn.
BINARY = {
    "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"),
    "==": ("!=",), "!=": ("==",),
    "+": ("-",), "-": ("+",), "*": ("/",), "/": ("*",), "%": ("/",),
    "&&": ("||",), "||": ("&&",),
    "&": ("|",), "|": ("&",), "^": ("&",), "<<": (">>",), ">>": ("<<",),
    "+=": ("-=",), "-=": ("+=",), "*=": ("/=",), "/=": ("*=",), "%=": ("/=",),
    "&=": ("|=",), "|=": ("&=",), "^=": ("&=",), "<<=": (">>=",), ">>=": ("<<=",),
}
UNARY = {"!": "", "~": "", "++": "--", "--": "++"}
WORDS = {"true": "false", "false": "true"}
# What begins the statement that makes an if a guard.
LEAVES = {"return", "continue", "break", "goto"}
# Calls that only tell, or that nothing but a debugger would miss: neither they nor their arguments.
TELLS = re.compile(r"(log_\w+|PROBE_\w+|assert|static_assert|_Static_assert|_Alignof|sizeof)$")
# A changed argument or guard of these could reach beyond the test.
DANGEROUS = re.compile(r"\b(kill|killpg|unlink|unlinkat|rename|rmdir|chown|chmod|setsid|reboot)\s*\(")
NOT_CALLS = {"if", "while", "for", "switch", "return", "sizeof", "do", "else", "case"}

Token = collections.namedtuple("Token", "kind text start end")


class Mutant(collections.namedtuple("Mutant", "line start end old new")):
    """The characters start to end of the file, which are `old`, become `new`."""

    def apply(self, text):
        # As many lines as before: what the compiler says of the rest does not move.
        lines = "\n" * (self.old.count("\n") - self.new.count("\n"))
        return text[:self.start] + self.new + lines + text[self.end:]

    def words(self):
        """What was changed, on one line."""
        flat = lambda s: re.sub(r"\s+", " ", s)
        return f"{flat(self.old)} -> {flat(self.new) or '(nothing)'}"


def tokens_of(text):
    """Those that the compiler sees, without what the preprocessor does."""
    return [Token(m.lastgroup, m.group(), m.start(), m.end()) for m in TOKEN.finditer(text)
            if m.lastgroup != "skip"]


def bodies_of(text):
    """(start, end) of each function's body."""
    start = None
    for m in re.finditer(r"^[{}]", text, re.M):
        if m.group() == "{":
            start = m.start()
        elif start is not None:
            yield start, m.end()
            start = None


def matching(tokens, at):
    """The index of the parenthesis that closes the one at `at`."""
    depth = 0
    for i in range(at, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[i].text, 0)
        if depth == 0:
            return i
    return len(tokens) - 1


def spaced(text, token):
    return text[token.start - 1].isspace() and text[token.end].isspace()


def number_changes(text):
    m = re.fullmatch(r"(0[xX][0-9a-fA-F]+|\d+)([uUlL]*)", text)
    if not m:
        return ()
    value = int(m[1], 16 if m[1][:2] in ("0x", "0X") else 8 if m[1][0] == "0" else 10)
    return (f"{0 if value == 1 else value + 1}{m[2]}",)


def changes_of_token(text, tokens, i):
    """What may come in the place of one token."""
    token = tokens[i]
    if token.kind == "number":
        return number_changes(token.text)
    if token.kind == "word":
        return (WORDS[token.text],) if token.text in WORDS else ()
    if token.text in BINARY and spaced(text, token):
        return BINARY[token.text]
    if token.text in UNARY and not spaced(text, token):
        return (UNARY[token.text],)
    return ()


def guard_at(tokens, i):
    """(first, last) of the condition, if the if at i does nothing but leave."""
    if tokens[i].text != "if" or i + 1 >= len(tokens):
        return None
    close = matching(tokens, i + 1)
    then = close + 1
    if then < len(tokens) and tokens[then].text == "{":
        then += 1
    if then < len(tokens) and tokens[then].text in LEAVES:
        return i + 2, close - 1
    return None


def begins_statement(tokens, i):
    before = tokens[i - 1].text
    return before in (";", "{", "}", ")", ":") or before == "else"


def call_at(tokens, i):
    """The last token of the call statement that begins at i, whose result nobody uses."""
    if i == 0 or not begins_statement(tokens, i):
        return None
    if [t.text for t in tokens[i:i + 3]] == ["(", "void", ")"]:
        i += 3
    elif tokens[i - 1].text == ")" and tokens[i - 2].text == "void":
        return None
    if i + 1 >= len(tokens) or tokens[i].kind != "word" or tokens[i + 1].text != "(":
        return None
    if tokens[i].text in NOT_CALLS or TELLS.match(tokens[i].text):
        return None
    close = matching(tokens, i + 1)
    if close + 1 < len(tokens) and tokens[close + 1].text == ";":
        return close
    return None


def untouchable(tokens):
    """Indices of the tokens in calls that only tell, and in labels of a switch."""
    found = set()
    for i, token in enumerate(tokens):
        if token.kind == "word" and TELLS.match(token.text) and i + 1 < len(tokens) \
                and tokens[i + 1].text == "(":
            found.update(range(i, matching(tokens, i + 1) + 1))
        elif token.text == "case":
            found.add(i + 1)
    return found


def of_body(text, tokens):
    """(start, end, new) of every change in one body."""
    skip = untouchable(tokens)
    for i, token in enumerate(tokens):
        if i in skip:
            continue
        for new in changes_of_token(text, tokens, i):
            yield token.start, token.end, new
        guard = guard_at(tokens, i)
        if guard:
            for new in ("0", "1"):
                yield tokens[guard[0]].start, tokens[guard[1]].end, new
        close = call_at(tokens, i)
        if close:
            yield token.start, tokens[close].end, ""


def of(text):
    """Every mutant of a C file's text, in the order of the file."""
    tokens = tokens_of(text)
    lines = text.splitlines()
    found = []
    for begin, end in bodies_of(text):
        body = [t for t in tokens if begin <= t.start < end]
        for start, stop, new in of_body(text, body):
            line = text.count("\n", 0, start) + 1
            if not DANGEROUS.search(lines[line - 1]):
                found.append(Mutant(line, start, stop, text[start:stop], new))
    return found
