"""Contract suites for plugin authors: what every store and every probe has to pass, in one class for each port.

    from capsula.testing import ActionCacheContract, BlobStoreContract, ProbeContract, RemoteContract

    class TestMyStore(BlobStoreContract, ActionCacheContract):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(tmp_path)

    class TestMyRemote(RemoteContract):
        @pytest.fixture
        def remote(self):
            return MyRemote(address)

    class TestMyProbe(ProbeContract):
        @pytest.fixture
        def make(self, tmp_path):
            return lambda environ: MyProbe(Surroundings(str(tmp_path), environ), station="north")

The fixtures `store` and `remote` are a new, empty store for each test; `make` makes a new probe with this environment,
which looks at the same things each time. The hooks of a suite say what else can be tested of a store; a hook that isn't
given skips its tests. Needs pytest, which Capsula itself doesn't.
"""

from capsula.testing.probes import ProbeContract
from capsula.testing.remotes import Desk, MemoryRemote, RemoteContract, soon
from capsula.testing.stores import ActionCacheContract, BlobStoreContract

__all__ = [
    "ActionCacheContract",
    "BlobStoreContract",
    "Desk",
    "MemoryRemote",
    "ProbeContract",
    "RemoteContract",
    "soon",
]
