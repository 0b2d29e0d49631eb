"""The whole state of an exchange in one file, from which it continues bit for bit.

The file is a zip archive of Arrow tables, one for each table of the exchange's memory, with a manifest that names the format, the
layout of the records and the SHA-256 of every member, and a digest of the manifest itself. Nothing in it is code.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from abm.exchange.instrument import Instrument
from abm.exchange.memory import COMPONENT_NAMES, ENGINE, OUTPUTS, TABLES, Memory
from abm.exchange.messages import Records

FORMAT = "exit-cascade checkpoint"
VERSION = 2
MANIFEST, DIGEST = "manifest.json", "manifest.sha256"
SPARSE = ("blocks", "upper", "holdings", "ids")
ADDRESSES = (*TABLES, *OUTPUTS, *COMPONENT_NAMES)


class CheckpointError(ValueError):
    """A checkpoint cannot be read; the message names the file and says why."""


def layout() -> str:
    """Hash of the record layouts: a checkpoint fits only the layout it was written with."""
    text = repr([(name, dtype.descr) for name, dtype in {**TABLES, "engine": ENGINE}.items()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _used(memory: Memory) -> dict[str, int]:
    """How many records of each table are in use."""
    engine = memory.engine[0]
    used = {name: len(table) for name, table in memory.tables.items() if name in TABLES}
    used |= dict.fromkeys(("orders", "terms"), int(engine["fresh"]))
    used |= {"ids": int(engine["n_ids"]), "accounts": int(engine["n_owners"]), "levels": 64 * int(engine["next_page"])}
    return used | {"timers": int(engine["n_timers"]) + 1, "shifts": int(engine["n_shifts"])}


def _filled(rows: Records) -> Any:
    """Places of the records that hold anything; in pieces, as most of a large table may be pages that were never written."""
    step = 2**28 // rows.itemsize
    pieces = []
    for start in range(0, len(rows), step):
        part = np.ascontiguousarray(rows[start : start + step])
        piece = part.view(np.uint32).reshape(len(part), -1)
        pieces.append(start + np.flatnonzero(piece[:, 0] if piece.shape[1] == 1 else piece.any(axis=1)))
    return np.concatenate([np.zeros(0, np.int64), *pieces])


def _members(memory: Memory) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa

    def columns(rows: Records) -> dict[str, Any]:
        names = [field for field in rows.dtype.names or () if not field.startswith("pad")]
        return {field: pa.array(np.ascontiguousarray(rows[field])) for field in names}

    yield (
        "engine",
        pa.table({field: column for field, column in columns(memory.engine).items() if field not in ADDRESSES}),
    )
    for name, count in _used(memory).items():
        rows = memory.tables[name][:count]
        if name in SPARSE:
            filled = _filled(rows)
            yield name, pa.table({"index": pa.array(filled), **columns(rows[filled])})
        else:
            yield name, pa.table(columns(rows))


def write(path: Path, instruments: tuple[Instrument, ...], state: dict[str, int], memory: Memory) -> None:
    """Write a checkpoint; a file of the name is replaced only once the new one is whole."""
    import pyarrow as pa

    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "layout": layout(),
        "accounts": memory["n_accounts"] - memory["margined"],
        "ledger": bool(memory.engine["ledger"][0]),
        "instruments": [instrument.model_dump(mode="json") for instrument in instruments],
        "state": state,
        "tables": {},
    }
    unfinished = path.with_name(path.name + ".part")
    try:
        with zipfile.ZipFile(unfinished, "w") as archive:
            for name, table in _members(memory):
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(
                    sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
                ) as writer:
                    writer.write_table(table)
                data = sink.getvalue().to_pybytes()
                manifest["tables"][name] = {"rows": table.num_rows, "sha256": hashlib.sha256(data).hexdigest()}
                archive.writestr(f"{name}.arrow", data)
            text = json.dumps(manifest, indent=1)
            archive.writestr(MANIFEST, text)
            archive.writestr(DIGEST, hashlib.sha256(text.encode()).hexdigest())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _open(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file; give the path that Exchange.save was given") from None
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole checkpoint ({error}); write it again with Exchange.save") from None
    if MANIFEST not in members or DIGEST not in members:
        raise CheckpointError(f"{path}: not a checkpoint: it has no manifest; write one with Exchange.save")
    if hashlib.sha256(members[MANIFEST]).hexdigest().encode() != members[DIGEST]:
        raise CheckpointError(f"{path}: the manifest was edited; write the checkpoint again with Exchange.save")
    manifest = json.loads(members[MANIFEST])
    if manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: format version {manifest.get('version')}, this is {VERSION}; load it with the version that wrote it"
        )
    if manifest["layout"] != layout():
        raise CheckpointError(
            f"{path}: record layout {manifest['layout']}, this is {layout()}; load it with the version that wrote it"
        )
    for name, entry in manifest["tables"].items():
        data = members.get(f"{name}.arrow")
        if data is None or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise CheckpointError(
                f"{path}: table {name} is missing or was edited; write the checkpoint again with Exchange.save"
            )
    return manifest, members


def read(path: Path) -> tuple[tuple[Instrument, ...], dict[str, int], Memory]:
    """Read a checkpoint: the instruments, the counters of the exchange, and its memory.

    Raises:
        CheckpointError: no such file, or it is of another version, truncated, or was edited.
    """
    import pyarrow as pa

    manifest, members = _open(path)
    instruments = tuple(Instrument.model_validate(row) for row in manifest["instruments"])
    memory = Memory(instruments, manifest["accounts"], manifest["ledger"])

    def columns(name: str) -> dict[str, Any]:
        table = pa.ipc.open_stream(members[f"{name}.arrow"]).read_all()
        return {field: table.column(field).to_numpy() for field in table.column_names}

    for field, values in columns("engine").items():
        memory.engine[field] = values
    for name in TABLES:
        count = manifest["tables"][name]["rows"]
        values = columns(name)
        if name == "ids" or name not in SPARSE:
            memory.grow(name, memory["n_ids"] if name == "ids" else count, 0)
        rows = memory.tables[name]
        where = values.pop("index") if name in SPARSE else slice(0, count)
        for field, column in values.items():
            rows[field][where] = column
    memory.make_room()  # what the numbers of room say is what tables had when they were written
    return instruments, manifest["state"], memory
