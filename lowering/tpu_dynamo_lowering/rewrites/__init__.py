"""Operators written in terms of others, one file for each family.

Importing this package imports every module beside this file, which fills the tables; in any order, since no module
reads them while it is imported.
"""

from importlib import import_module
from pkgutil import iter_modules

for _name in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_name}")
