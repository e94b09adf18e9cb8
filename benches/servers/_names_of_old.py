"""Names that curio 1.6, its last release, imports and Python 3.12 removed or made private; none is used here."""

import ssl
from multiprocessing import connection

for name in ('CHALLENGE', 'WELCOME', 'FAILURE'):
    if not hasattr(connection, name):
        setattr(connection, name, getattr(connection, f'_{name}'))
if not hasattr(ssl, 'wrap_socket'):
    ssl.wrap_socket = lambda: None
