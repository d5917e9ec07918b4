"""Print the lowest versions that pyproject.toml admits, as constraints for pip.

python .ci/lowest.py [PACKAGE ...]     leaving out what is named
"""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
groups = [project["dependencies"], *project["optional-dependencies"].values()]
listed = [requirement for group in groups for requirement in group]
for requirement in dict.fromkeys(listed):
    found = re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=([0-9.]+)", requirement)
    if found and found[1] not in sys.argv[1:]:
        print(f"{found[1]}=={found[2]}")
# What others depend on without a limit that they need.
print("sqlalchemy<2.1")  # MLflow before 3.17
