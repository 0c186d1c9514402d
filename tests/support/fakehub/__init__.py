"""A stateful fake of GitHub on a bare git repository: REST, GraphQL and git on one port.

Heads, compares, contents and merges are computed by git, so a push moves a pull request.
Every exchange is checked against the official description: ``hub.violations`` is to be empty.
"""

from fakehub.hub import FakeHub
from fakehub.model import Protection
from fakehub.wire import Exchange, Fault

__all__ = ["Exchange", "FakeHub", "Fault", "Protection"]
