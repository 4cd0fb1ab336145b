"""The run-time type checker of every test run: beartype, for which an int is a float as in PEP 484, since YAML users write `margin: 0`."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
