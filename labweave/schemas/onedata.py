"""Onedata: the variables of VR imaging sessions, recipes, and whether these can be followed."""

from functools import cached_property
from pathlib import Path

import datajoint as dj

from labweave.errors import SchemaError
from labweave.schemas.ingestion import Source
from labweave.schemas.session import Session

schema = dj.Schema()

PATH_LENGTH = 255


@schema
class OneSession(dj.Manual):
    definition = """
    # one session with a folder of onedata
    -> Session
    ---
    -> Source
    one_folder          : varchar(255)      # its folder below the source's location
    one_session_id=''   : varchar(64)       # as its folder is called; empty when there is none
    one_session_kind    : enum('b2', 'onedata') # registered by vrAnalysis, or another lab's
    one_options=null    : json              # of the registration
    one_preprocessing=null : json           # steps of the registration that are done
    one_values=null     : json              # what the registration and users have set
    one_trusts_pickles=0 : bool             # recipes may unpickle its files
    """


@schema
class RoiPlane(dj.Manual):
    definition = """
    # one imaging plane of a session
    -> OneSession
    plane_order         : int32             # counts from 0 in the order in which ROIs are joined
    ---
    plane_name          : varchar(64)       # its folder in suite2p, for example plane0
    plane_id            : int32             # its number
    n_rois=null         : int32             # ROIs
    n_frames=null       : int32             # frames; planes may differ by one
    """


@schema
class OneData(dj.Manual):
    definition = """
    # one variable of a session
    -> OneSession
    one_name            : varchar(128)      # object.attribute, for example mpci.roiActivityF
    one_form            : enum('npy', 'npz') # a name can have both
    ---
    one_kind            : enum('array', 'sparse', 'recipe', 'object', 'unsafe', 'unreadable') # object is plain values
    one_object          : varchar(128)      # name up to the first dot
    one_attribute=''    : varchar(128)      # name behind it
    one_dtype=''        : varchar(255)      # as numpy writes it, for example <f8
    one_shape=null      : json              # list of lengths
    n_stored=null       : int64             # elements that a sparse array (csc) stores
    content_sha256=''   : varchar(64)       # of the array's bytes in C order; of sparse data, indices and indptr
    object_value=null   : json              # plain values, as far as JSON holds them
    one_problem=''      : varchar(2000)     # why it is unsafe or unreadable
    one_file=''         : varchar(255)      # below the session's folder; empty when it is in the database alone
    one_file_size=null  : int64             # bytes
    one_file_sha256=''  : varchar(64)       # of its bytes
    one_vanished=0      : bool              # its file is no longer there
    """


@schema
class Recipe(dj.Manual):
    definition = """
    # one variable that is loaded from where its data already is
    -> OneData
    ---
    loader_type         : varchar(64)       # name of the loader, for example S2P
    source_arg=null     : varchar(1000)     # what it loads
    transforms          : json              # what is done to it then, from left to right
    kwargs              : json              # arguments of the loader
    """


@schema
class RecipeCheck(dj.Computed):
    definition = """
    # one recipe, followed
    -> Recipe
    ---
    recipe_state : enum('resolved', 'missing_source', 'unknown_loader', 'unknown_transform', 'refused', 'failed') # why
    result_shape=null   : json              # list of lengths
    result_dtype=''     : varchar(255)      # as numpy writes it, or list
    result_size=null    : int64             # bytes in memory
    reason=''           : varchar(2000)     # why it can't be followed
    """

    class SourceFile(dj.Part):
        definition = """
        # one file that the recipe loads from, or would
        -> master
        source_path         : varchar(255)      # below the source's location, absolute when it is not; or a folder
        ---
        source_size=null    : int64             # bytes; null when it is missing
        source_mtime_ns=null : int64            # ns since 1970, time of its last change
        source_sha256=''    : varchar(64)       # of its bytes
        n_rows=null         : int64             # length of an array file's first axis
        """

    @property
    def key_source(self):
        """Recipes of variables that are still there."""
        return Recipe & (OneData & {"one_vanished": False, "one_kind": "recipe"})

    @cached_property
    def _recipes(self):
        """Recipes with what is needed to open them; cached, as making the join takes longer than the query."""
        return Recipe * _sessions()

    def make_fetch(self, key):
        return tuple((self._recipes & key).to_dicts())

    def make_compute(self, key, recipe):
        from labweave.formats.onedata import checking as following

        result, sources = following.check(recipe)
        if any(len(row["source_path"]) > PATH_LENGTH for row in sources):
            sources, result = [], {"recipe_state": "refused", "reason": f"A path is longer than {PATH_LENGTH}."}
        return result, sources

    def make_insert(self, key, result, sources):
        self.insert1({**key, **result})
        self.SourceFile.insert([{**key, **row} for row in sources])

    def inputs(self, key):
        opened = _sessions().proj("one_folder", "one_options", "one_preprocessing", "one_values", "one_trusts_pickles")
        return [Recipe, opened]

    @classmethod
    def changed_outside(cls):
        """Return the keys of rows whose source files changed, came or went, or whose loader has become known."""
        places = {
            row["eid"]: (Path(row["location"]) if Path(row["location"]).is_dir() else None)
            for row in (OneSession * Source.proj("location")).proj("location").to_dicts()
        }
        if not places:
            return []
        from labweave.formats.onedata import checking as following

        stale = []
        for row in cls.SourceFile().to_dicts():
            root = places[row["eid"]]  # None: a disk that is not mounted changes nothing
            if root and (row["source_size"], row["source_mtime_ns"]) != following.stat(root / row["source_path"]):
                stale.append(row)
        unknown = cls & "recipe_state in ('unknown_loader', 'unknown_transform')"
        stale += [row for row in (Recipe & unknown.proj()).to_dicts() if following.is_known(row)]
        keys = dict.fromkeys(tuple(row[name] for name in cls.primary_key) for row in stale)
        return [dict(zip(cls.primary_key, key, strict=True)) for key in keys]


def session(eid, **options):
    """Return the session object of an eid, with its values and recipes from the database.

    Parameters
    ----------
    eid : str
    **options
        Keywords of `labweave.formats.onedata.OneDataSession`. Pickles are trusted if the source was ingested so.

    Returns
    -------
    OneDataSession
        Loads variables from their files, and follows recipes that are in the database alone.

    Raises
    ------
    SchemaError
        The session has no onedata.

    Examples
    --------
    >>> from labweave.schemas import onedata
    >>> eid = onedata.OneSession().fetch1("eid")
    >>> onedata.session(eid).loadone("mpci.times")
    array([0., 1., 2., 3., 4., 5.])
    """
    from labweave.formats.onedata import checking as following

    opened = following.open_session(find(eid), **options)
    for row in (Recipe & recipes_alone().proj() & {"eid": str(eid)}).to_dicts():
        opened.one_recipes[f"{row['one_name']}.npy"] = following.recipe_of(row)
    return opened


def load_dataset(eid, dataset_name, **options):
    """Load one variable by the name of its file, following its recipe.

    Parameters
    ----------
    eid : str
    dataset_name : str
        For example ``mpci.roiActivityF.npy``; an ``.npz`` array comes dense unless ``keep_sparse=True``.
    **options
        ``mmap`` and ``keep_sparse`` of `OneDataSession.loadone`.

    Raises
    ------
    SchemaError
        The session has no onedata.
    NotSaved, RecipeError, ReadError

    Examples
    --------
    >>> from labweave.schemas import onedata
    >>> eid = onedata.OneSession().fetch1("eid")
    >>> onedata.load_dataset(eid, "mpci.times.npy")
    array([0., 1., 2., 3., 4., 5.])
    """
    stem, _, form = dataset_name.rpartition(".")
    return session(eid, cache_bytes=0).loadone(stem, sparse=form == "npz", **options)


def recipes_alone():
    """Return the variables that are recipes in the database, without a file."""
    return OneData & {"one_kind": "recipe", "one_form": "npy", "one_file": "", "one_vanished": False}


def _sessions():
    """Return sessions with what is needed to open them."""
    return OneSession * Session.proj("subject", "session_date") * Source.proj("location")


def find(eid):
    """Return a session with all that opening it needs.

    Raises
    ------
    SchemaError
        The session has no onedata.
    """
    found = (_sessions() & {"eid": str(eid)}).to_dicts()
    if not found:
        raise SchemaError(
            f"The session {eid} has no onedata. Ingest its data root: labweave ingest onedata FOLDER --lab LAB"
        )
    return found[0]
