import subprocess
import sys

CONVERTS = """
import sys
from ingest.without_pandas import keep_out_pandas
if {keeps_out}:
    keep_out_pandas()
import pyarrow
assert pyarrow.array(["a"]).to_pylist() == ["a"]
print("pandas" in sys.modules)
"""


def _loads_pandas(*, keeps_out: bool) -> bool:
    text = CONVERTS.format(keeps_out=keeps_out)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True, text=True)
    return done.stdout.strip() == "True"


def test_a_conversion_loads_pandas_unless_it_is_kept_out() -> None:
    assert _loads_pandas(keeps_out=False)
    assert not _loads_pandas(keeps_out=True)
