"""The suites are not installed, and the root of the repository is on no path: make them a package.

So the modules of `suites/` are called here as pytest calls them there, `suites.cases` and so on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

package = ModuleType("suites")
package.__path__ = [str(Path(__file__).resolve().parents[2] / "suites")]
sys.modules.setdefault("suites", package)
