"""Each message that the sources have is read by a test: none is wrong, or has gone, unseen."""

import ast
import re
from collections import Counter

import pytest
from support import TESTS

SOURCES = TESTS.parent

#: So many characters of whole words of a message, which no other message has, in a string of a test, show that the test
#: reads it.
PIECE = 12

#: What no test reads, by its words alone, and why.
UNREAD = {
    'an address to answer': 'a part of connect waits for it, in a thread of its own',
    'sendfile is over nobody waits for what is read': 'it ends a call whose answer is dropped',
    'sock was built wrong sock Thread has no place for weak references or objects of several kinds so that '
    'their memory cannot be used again': 'no build of this interpreter is so',
    'sleep_until takes': 'it goes on in the words of another, that of `SleepJob`, which alone cannot be told from it',
    'the buffers changed while they were looked at': 'they are in a list of our own, which nobody else has',
}


def plain(text):
    """The words of a text, or of a regular expression for one."""
    return ' '.join(re.findall(r'\w+', re.sub(r'\\[nt]?', ' ', text)))


def strings(source):
    """The strings of a Python module without its docstrings; of those with values in them, the parts between these."""
    tree = ast.parse(source)
    left_out = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            left_out.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = [part for part in node.values if isinstance(part, ast.Constant)]
            left_out.update(parts)
            yield [part.value for part in parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in left_out:
            yield [node.value]


#: A comment, a character, a C string, or a string; only the last has a group. Our strings are never raw.
TOKEN = re.compile(r"""//[^\n]*|c"[^"]*"|b?'(?:\\.[^']*|[^\\'\n])'|"((?:\\.|[^"\\])*)\"""", re.S)
#: Before a string that no user sees: of a panic, of a lint, of a signature.
INSIDE = re.compile(r'(expect\(|panic!\(|assert\w*!\([^;]*|(reason|signature) = )\s*$')
#: Tests beside the sources.
RUST_TESTS = {'model.rs', 'properties.rs', 'tests.rs'}


def strings_of_rust(source):
    source = re.split(r'#\[cfg\(test\)\]\s*(?:pub )?mod \w+ \{', source)[0]
    for token in TOKEN.finditer(source):
        if token[1] is not None and not INSIDE.search(source, max(token.start() - 200, 0), token.start()):
            yield re.split(r'\{[^{}]*\}', re.sub(r'\\\n\s*', '', token[1]))


def pieces(parts):
    """All sequences of words that are long enough."""
    for part in parts:
        text = plain(part)
        begins = [0, *(space.end() for space in re.finditer(' ', text))]
        ends = [*(space.start() for space in re.finditer(' ', text)), len(text)]
        yield from (text[begin:end] for begin in begins for end in ends if end - begin >= PIECE)


def messages(sources):
    """The words of each message of the sources, and its pieces. A list of names, of numbers' say, is no message."""
    for parts in sources:
        words = ' '.join(filter(None, map(plain, parts)))
        if any(' ' in part.strip() for part in parts) and not words.isupper() and (some := set(pieces(parts))):
            yield words, some


def unread(sources, tests):
    """The messages that no test reads by a piece which no other message has."""
    texts = {plain(part) for parts in tests for part in parts}
    read = '\n'.join(texts)
    found = dict(messages(sources))
    having = Counter(piece for some in found.values() for piece in some)
    own = {words: {piece for piece in some if having[piece] == 1} for words, some in found.items()}

    def is_read(words):
        if own[words]:
            return any(piece in read for piece in own[words])
        # All of it is in longer ones: it has to be in a text that has nothing of what these have besides.
        whole = max(found[words], key=len)
        longer = {piece for other, some in found.items() if whole in some for piece in own[other]}
        return any(whole in text and not any(piece in text for piece in longer) for text in texts)

    return sorted(words for words in found if not is_read(words))


def of_library():
    for path in sorted((SOURCES / 'python/sock').glob('*.py')):
        yield from strings(path.read_text(encoding='utf-8'))
    for path in sorted((SOURCES / 'src').rglob('*.rs')):
        if path.name not in RUST_TESTS:
            yield from strings_of_rust(path.read_text(encoding='utf-8'))


def of_tests():
    for path in sorted(TESTS.rglob('*.py')):
        if path.name != 'test_messages.py':
            yield from strings(path.read_text(encoding='utf-8'))


@pytest.mark.skipif(not (SOURCES / 'src').is_dir(), reason='the sources are elsewhere')
def test_every_message_of_the_sources_is_read_by_a_test():
    found = unread(of_library(), of_tests())
    assert [words for words in found if words not in UNREAD] == [], 'no test reads these: provoke them'
    assert [words for words in UNREAD if words not in found] == [], 'these are read, or have gone: take them out'


PYTHON = """
def f(x):
    '''A docstring that is no message.'''
    raise ValueError(f'{x} is a thing that nobody knows')
"""

RUST = r"""
// "a comment that is no message"
fn f() { Err(error(format!("{x} is an oddity \
    that nobody met"))) }
#[cfg(test)]
mod tests { const TEXT: &str = "a string that tests have"; }
"""


def test_messages_are_found_in_both_languages_and_read_in_part():
    sources = [*strings(PYTHON), *strings_of_rust(RUST)]
    assert unread(sources, [['is a thing nobody']]) == [
        'is a thing that nobody knows',
        'is an oddity that nobody met',
    ]
    assert unread(sources, [[r'^\d+ is a thing that \w+'], ['it is an oddity that']]) == []


def test_what_several_messages_have_shows_none_of_them_and_one_within_another_is_read_alone():
    sources = [['', ' must be a number'], ['backlog must be a number'], ['port must be a number of 16 bits']]
    assert unread(sources, [['must be a number']]) == ['backlog must be a number', 'port must be a number of 16 bits']
    assert unread(sources, [['backlog must be a number'], ['number of 16 bits']]) == ['must be a number']
    assert unread(sources, [['port must be a number'], ['^backlog must be'], ['size must be a number']]) == []
