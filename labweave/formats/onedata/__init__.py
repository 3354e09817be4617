"""Onedata sessions of VR imaging: variables saved once, or recipes that point to where the data already is.

The names, arguments and files are those of vrAnalysis, both ways: it reads what labweave wrote, and the reverse.
Nothing is unpickled unless the session is opened with ``trust_pickles=True``.
"""

import labweave.formats.onedata.loaders  # noqa: F401 - registers the loaders and transforms that every session has
from labweave.formats.onedata.arrays import leading_length, read_npy
from labweave.formats.onedata.cache import ArrayCache
from labweave.formats.onedata.describe import OneFile, describe
from labweave.formats.onedata.errors import (
    BadFile,
    NotRegistered,
    NotSaved,
    RecipeError,
    RecipeRefused,
    SourceNotAvailable,
    UnknownLoader,
    UnknownTransform,
    UnsafeFile,
)
from labweave.formats.onedata.names import FOLDERS, SessionFolder, saved_files, split_folder, split_name
from labweave.formats.onedata.recipe import LoadingRecipe, sources_opened
from labweave.formats.onedata.registry import register_loader, register_transform
from labweave.formats.onedata.session import SessionData
from labweave.formats.onedata.vr import B2Session, OneDataSession, load_file

__all__ = [
    "FOLDERS",
    "ArrayCache",
    "B2Session",
    "BadFile",
    "LoadingRecipe",
    "NotRegistered",
    "NotSaved",
    "OneDataSession",
    "OneFile",
    "RecipeError",
    "RecipeRefused",
    "SessionData",
    "SessionFolder",
    "SourceNotAvailable",
    "UnknownLoader",
    "UnknownTransform",
    "UnsafeFile",
    "describe",
    "leading_length",
    "load_file",
    "read_npy",
    "register_loader",
    "register_transform",
    "saved_files",
    "sources_opened",
    "split_folder",
    "split_name",
]
