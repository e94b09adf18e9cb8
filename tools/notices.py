"""Writes THIRD-PARTY-NOTICES.txt, which goes into each wheel: what is linked into the extension, with its license.

`notices.py --check` fails where that file is not what it would write: `make lint` looks.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOTICES = ROOT / 'THIRD-PARTY-NOTICES.txt'
SYSTEMS = (
    'aarch64-apple-darwin',
    'aarch64-unknown-linux-gnu',
    'aarch64-unknown-linux-musl',
    'x86_64-apple-darwin',
    'x86_64-pc-windows-gnu',
    'x86_64-pc-windows-msvc',
    'x86_64-unknown-freebsd',
    'x86_64-unknown-linux-gnu',
    'x86_64-unknown-linux-musl',
)

HEAD = """corosock's extension is under the license in LICENSE. It has the code of these crates of others in it, on one
system or another, each under the MIT license as it stands below: where a crate leaves the choice, MIT is chosen.

Rust's standard library is in it too, Copyright (c) The Rust Project Contributors, under the MIT license; what that
library has of others, COPYRIGHT-library.html in share/doc/rust of the toolchain names.
"""


def linked(metadata):
    """The packages that are in the extension: what runs when it is compiled alone, or for its tests, is not."""
    packages = {package['id']: package for package in metadata['packages']}
    nodes = {node['id']: node for node in metadata['resolve']['nodes']}
    root = metadata['resolve']['root']
    found, left = set(), [root]
    while left:
        name = left.pop()
        for each in nodes[name]['deps']:
            macros = any('proc-macro' in target['kind'] for target in packages[each['pkg']]['targets'])
            normal = any(how['kind'] is None for how in each['dep_kinds'])
            if normal and not macros and each['pkg'] not in found:
                found.add(each['pkg'])
                left.append(each['pkg'])
    return sorted((packages[name] for name in found), key=lambda package: package['name'])


def license_of(package):
    """The text of its MIT license."""
    folder = Path(package['manifest_path']).parent
    for path in sorted(folder.iterdir(), reverse=True):
        if path.name.lower() in ('license-mit', 'license') and 'MIT' in package['license']:
            return '\n'.join(line.rstrip() for line in path.read_text(encoding='utf-8').strip().splitlines())
    sys.exit(f'notices.py: {package["name"]} has no MIT license: {package["license"]}')


def notices(packages):
    """All of it: a license that several have in the same words is there once."""
    texts = {}
    for package in packages:
        texts.setdefault(license_of(package), []).append(f'{package["name"]} {package["version"]}')
    parts = [HEAD, *('\n\n'.join(['-' * 80, '\n'.join(names), f'{text}\n']) for text, names in texts.items())]
    return '\n'.join(parts)


def main():
    command = ['cargo', 'metadata', '--locked', '--format-version=1', '--features=python']
    command += [f'--filter-platform={system}' for system in SYSTEMS]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    text = notices(linked(json.loads(done.stdout)))
    if sys.argv[1:] != ['--check']:
        NOTICES.write_text(text, encoding='utf-8')
    elif not NOTICES.exists() or NOTICES.read_text(encoding='utf-8') != text:
        sys.exit(f'{NOTICES.name} is not that of Cargo.lock: make notices')


if __name__ == '__main__':
    main()
