"""The two pickle containers that torch has written, byte for byte the same on every run."""

import io
import pickle
import struct
import warnings
from collections import OrderedDict

import torch

# torch still hands storages of this kind to picklers.
warnings.filterwarnings("ignore", message="TypedStorage is deprecated")

LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def save_zip(value, path):
    """As torch has saved since 1.6."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)


def save_legacy(value, path):
    """As torch saved before 1.6, with storages named by number: torch itself names them by memory address."""
    storages = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if not isinstance(item, torch.storage.TypedStorage):
                return None
            key = next((i for i, s in enumerate(storages) if s.data_ptr() == item.data_ptr()), None)
            if key is None:
                key = len(storages)
                storages.append(item)
            kind = getattr(torch, item.pickle_storage_type())
            return ("storage", kind, str(key), "cpu", item.size(), None)

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
    back = torch.load(path, weights_only=True)
    inner = next((v for v in back.values() if isinstance(v, dict)), back)
    wanted = next((v for v in value.values() if isinstance(v, dict)), value)
    assert inner.keys() == wanted.keys() and all(torch.equal(inner[k], wanted[k]) for k in inner), path


def prefixed(prefix, state):
    return OrderedDict((prefix + key, value) for key, value in state.items())


def with_metadata(state):
    """A state dict as modules give it: `_metadata` is set on it by the pickle's BUILD."""
    state = OrderedDict(state)
    state._metadata = OrderedDict({"": {"version": 1}})
    return state
