"""How kernels are compiled: once for each machine, cached on disk, and thrown away when any kernel's source changes.

Numba's own cache looks only at the file of the function it stores, so that an edit of a function called from another file would go
unnoticed, and so would one of a record's layout. Entry points here are therefore stamped with a hash of the files here and in
`abm/clearing` that hold kernels, or numbers that they are compiled with.
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.ccallback import CFunc
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype


class _Step:
    """Compiles a function for 64-bit integers whatever narrower integers its callers hand in, so that it is compiled once."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def __call__(self, function: Callable[..., Any]) -> Any:
        dispatcher = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **self._options)(function)
        template = dispatcher.get_call_template

        def widened(arguments: Any, keywords: Any) -> Any:
            return template(
                tuple(types.int64 if isinstance(t, types.Integer | types.Boolean) else t for t in arguments), keywords
            )

        dispatcher.get_call_template = widened
        return dispatcher


inlined = _Step(forceinline=True)
"""A step of a kernel small and hot enough to be compiled into each caller."""

compiled = _Step()
"""A step of a kernel: compiled with its callers, never called from Python."""


@cache
def _sources_hash() -> str:
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted([*here.glob("*.py"), *here.with_name("clearing").glob("*.py")]):
        text = path.read_bytes()
        if b"abm.exchange.compilation" in text or path.stem in ("compilation", "messages", "description"):
            digest.update(path.name.encode() + text)
    return digest.hexdigest()


class _KernelCache(FunctionCache):  # type: ignore[misc]
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = IndexDataCacheFile(
            cache_path=self._cache_path, filename_base=self._impl.filename_base, source_stamp=_sources_hash()
        )


def kernel(function: Callable[..., Any]) -> Any:
    """Make a compiled entry point that Python calls: `function` with its machine code kept on disk."""
    dispatcher = njit(function)
    dispatcher._cache = _KernelCache(function)
    return dispatcher


@kernel
def address(records: Any) -> int:
    """Where an array starts; NumPy takes five times as long to say it."""
    return int(records.ctypes.data)


class Component:
    """A large step of a kernel that is compiled by itself and reached by its address, which the `ENGINE` record holds.

    Numba compiles everything that a function calls into that function. Were the whole exchange one such tree, each feature would be
    optimised again in every caller; components keep the first compilation short. A parameter that has the name of a record in
    `records` is one, every other is a 64-bit integer, and so is the answer.
    """

    def __init__(self, function: Callable[..., Any], records: Mapping[str, np.dtype[np.void]]) -> None:
        names = list(inspect.signature(function).parameters)
        self._types = tuple(from_dtype(records[name]) if name in records else types.int64 for name in names)
        self._function = function

    @cached_property
    def address(self) -> int:
        """Where the machine code starts; compiled, or loaded from the cache, when first asked for."""
        code = CFunc(self._function, (self._types, types.int64), locals={}, options={"nopython": True})
        code._cache = _KernelCache(self._function)  # type: ignore[attr-defined]
        code.compile()
        self._code = code  # keeps the machine code alive
        return int(code.address or 0)

    def caller(self, offset: int) -> Any:
        """The step by which kernels call the component: `(e, ...)`, where the engine record `e` has its address at byte `offset`."""
        declared = self._types

        def call(_context: Any, *arguments: Any) -> Any:
            def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                kinds = [context.get_value_type(t) for t in signature.args]
                word = ir.IntType(64)
                place = builder.gep(builder.bitcast(values[0], ir.IntType(8).as_pointer()), [ir.Constant(word, offset)])
                address = builder.load(builder.bitcast(place, word.as_pointer()))
                function = builder.inttoptr(address, ir.FunctionType(word, kinds).as_pointer())
                return builder.call(function, values)

            return types.int64(*declared), build

        context = inspect.Parameter("_context", inspect.Parameter.POSITIONAL_ONLY)
        own = inspect.signature(self._function).parameters.values()
        plain = [parameter.replace(kind=inspect.Parameter.POSITIONAL_ONLY) for parameter in own]
        call.__signature__ = inspect.Signature([context, *plain])  # type: ignore[attr-defined]
        return intrinsic(call)


def accessor(dtype: np.dtype[np.void]) -> Any:
    """Make `at(address, index)`: the record number `index` of the array of `dtype` that starts at `address`.

    Kernels share their state as addresses in one record and not as arrays, since each array handed to a function costs seven machine
    words a call. The arrays are kept alive by the `Memory` that owns them.
    """
    record = from_dtype(dtype)
    size = dtype.itemsize

    @intrinsic
    def at(_context: Any, address: Any, index: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            word = ir.IntType(64)
            start, number = arguments
            if signature.args[1].bitwidth < 64:
                number = builder.sext(number, word) if signature.args[1].signed else builder.zext(number, word)
            place = builder.add(start, builder.mul(number, ir.Constant(word, size)))
            return builder.inttoptr(place, context.get_value_type(record))

        return record(address, index), build

    return at


@intrinsic
def lowest_bit(_context: Any, word: Any) -> Any:
    """Number of the lowest set bit of a 64-bit word that is not 0."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], cgutils.true_bit)

    return types.int64(types.uint64), build


@intrinsic
def highest_bit(_context: Any, word: Any) -> Any:
    """Number of the highest set bit of a 64-bit word that is not 0."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.sub(ir.Constant(ir.IntType(64), 63), builder.ctlz(arguments[0], cgutils.true_bit))

    return types.int64(types.uint64), build


@intrinsic
def prefetch(_context: Any, record: Any) -> Any:
    """Ask the processor to fetch a record that will be needed soon."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        flag, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = builder.bitcast(arguments[0], pointer)
        builder.call(function, [place, ir.Constant(flag, 0), ir.Constant(flag, 3), ir.Constant(flag, 1)])
        return ir.Constant(ir.IntType(64), 0)

    return types.int64(record), build
