"""Writers of torch's two pickle containers. The same input gives the same bytes."""

import io
import pickle
import struct
import warnings
from collections import OrderedDict

import torch

# torch still passes TypedStorage objects to picklers.
warnings.filterwarnings("ignore", message="TypedStorage is deprecated")

LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def save_zip(value, path):
    """Writes the zip container of torch 1.6 and later."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)


def save_legacy(value, path):
    """Writes the container of torch before 1.6. Storage keys are numbers; torch uses memory addresses."""
    storages = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if not isinstance(item, torch.storage.TypedStorage):
                return None
            key = next((i for i, s in enumerate(storages) if s.data_ptr() == item.data_ptr()), None)
            if key is None:
                key = len(storages)
                storages.append(item)
            storage_class = getattr(torch, item.pickle_storage_type())
            return ("storage", storage_class, str(key), "cpu", item.size(), None)

    body = io.BytesIO()
    sizes = dict(short=2, int=4, long=4)
    for header in (LEGACY_MAGIC, LEGACY_PROTOCOL):
        pickle.dump(header, body, protocol=2)
    pickle.dump(dict(protocol_version=LEGACY_PROTOCOL, little_endian=True, type_sizes=sizes), body, protocol=2)
    Pickler(body, protocol=2).dump(value)
    pickle.dump([str(i) for i in range(len(storages))], body, protocol=2)
    for storage in storages:
        body.write(struct.pack("<q", storage.size()))
        body.write(bytes(storage.untyped()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body.getvalue())
    loaded = torch.load(path, weights_only=True)
    inner = next((v for v in loaded.values() if isinstance(v, dict)), loaded)
    expected = next((v for v in value.values() if isinstance(v, dict)), value)
    assert inner.keys() == expected.keys() and all(torch.equal(inner[k], expected[k]) for k in inner), path


def prefixed(prefix, state):
    return OrderedDict((prefix + key, value) for key, value in state.items())


def with_metadata(state):
    """Returns a state dict like `Module.state_dict()`: it has `_metadata`, which the pickle sets with BUILD."""
    state = OrderedDict(state)
    state._metadata = OrderedDict({"": {"version": 1}})
    return state
