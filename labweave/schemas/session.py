"""Sessions: one subject, one day, one number; all that was recorded belongs to one."""

import datajoint as dj

from labweave.formats.alf.qc import QC as OUTCOMES
from labweave.schemas.deletion import LeavesMasters
from labweave.schemas.lab import LabMember, Project
from labweave.schemas.subject import Subject

schema = dj.Schema()


@schema
class QC(dj.Lookup):
    definition = """
    # one outcome of quality control
    qc                  : varchar(16)       # in capitals, as ALF and Alyx name it
    ---
    severity            : int32             # the worse, the larger; 0 is not set
    """
    contents = tuple({"qc": qc, "severity": severity} for qc, severity in OUTCOMES.items())


@schema
class Procedure(dj.Manual):
    definition = """
    # one kind of thing done in a session
    procedure           : varchar(255)      # for example Behavior training/tasks
    ---
    procedure_uuid=null : char(36)          # tells that it is the same one after a rename
    procedure_description='' : varchar(2000) # in words
    procedure_json=null : json              # what else the source says
    procedure_vanished=null : char(36)      # run that no longer found it at its source
    unique index (procedure_uuid)
    """


@schema
class Session(LeavesMasters, dj.Manual):
    definition = """
    # one experiment: a subject at a rig, once
    eid                 : char(36)          # experiment id, uuid in lower case
    ---
    -> Subject
    path_lab=''         : varchar(64)       # lab in its ALF path, where it is another than the subject's
    session_date=null   : date              # day it began, in the lab's time zone
    session_number=null : int32             # counts the sessions of that day from 1
    start_time=null     : datetime(6)       # as the source shows it: by the lab's clock, where its rigs write so
    end_time=null       : datetime(6)       # as start_time
    session_type=''     : varchar(255)      # for example Experiment
    task_protocol=''    : varchar(1023)     # name of the task program
    session_location='' : varchar(255)      # rig or room
    -> [nullable] QC
    extended_qc=null    : json              # single checks
    narrative=''        : varchar(8000)     # in words
    n_trials=null       : int32             # trials done
    n_correct_trials=null : int32           # trials with the right answer
    parent_eid=null     : char(36)          # the session it belongs to, not always present
    source_stamp=null   : datetime(6)       # UTC; last change, as the source wrote it
    session_json=null   : json              # what else the source says
    session_vanished=null : char(36)        # run that no longer found it at its source
    index (lab, subject, session_date, session_number)
    index (subject, session_date, session_number)
    index (session_number, session_date, start_time, subject, session_vanished, eid)
    index (path_lab, lab, session_date, start_time, subject, session_number, session_vanished, eid)
    index (session_date, start_time, subject, session_number, lab, path_lab, session_vanished, eid)
    """


@schema
class SessionUser(dj.Manual):
    definition = """
    # one person who ran a session
    -> Session
    -> LabMember
    """


@schema
class SessionProject(dj.Manual):
    definition = """
    # one project that a session belongs to
    -> Session
    -> Project
    ---
    index (project, eid)
    """


@schema
class SessionProcedure(dj.Manual):
    definition = """
    # one procedure done in a session
    -> Session
    -> Procedure
    """


@schema
class SessionNote(dj.Manual):
    definition = """
    # one note on a session
    note_uuid           : char(36)          # id at the source
    ---
    -> Session
    note_time=null      : datetime(6)       # by the source's clock
    note_text=''        : varchar(8000)     # what it says
    -> [nullable] LabMember
    note_json=null      : json              # what else the source says
    note_vanished=null  : char(36)          # run that no longer found it at its source
    """


@schema
class ProbeInsertion(dj.Manual):
    definition = """
    # one probe in the brain during a session
    -> Session
    probe_name          : varchar(255)      # for example probe00
    ---
    pid                 : char(36)          # insertion id, uuid in lower case
    model=''            : varchar(255)      # for example 3B2
    serial=''           : varchar(255)      # of the probe
    insertion_stamp=null : datetime(6)      # UTC; last change, as the source wrote it
    insertion_json=null : json              # what else the source says
    insertion_vanished=null : char(36)      # run that no longer found it at its source
    unique index (pid)
    """


@schema
class Trajectory(dj.Manual):
    definition = """
    # one estimate of where a probe went
    trajectory_uuid     : char(36)          # id at the source
    ---
    -> [nullable] ProbeInsertion
    provenance=''       : varchar(64)       # for example Planned, Histology track
    x=null              : float64           # um, medio-lateral from bregma, right is positive
    y=null              : float64           # um, antero-posterior from bregma, front is positive
    z=null              : float64           # um, dorso-ventral from bregma, up is positive
    depth=null          : float64           # um, along the probe
    theta=null          : float64           # deg, polar angle
    phi=null            : float64           # deg, azimuth
    roll=null           : float64           # deg
    coordinate_system='' : varchar(64)      # for example IBL-Allen
    trajectory_stamp=null : datetime(6)     # UTC; last change, as the source wrote it
    trajectory_json=null : json             # what else the source says
    trajectory_vanished=null : char(36)     # run that no longer found it at its source
    """


@schema
class Channel(dj.Manual):
    definition = """
    # one recording site on an estimated trajectory
    channel_uuid        : char(36)          # id at the source
    ---
    -> Trajectory
    channel_name=''     : varchar(255)      # where it has one
    axial=null          : float64           # um, along the probe from its tip
    lateral=null        : float64           # um, across the probe
    channel_x=null      : float64           # um, as in Trajectory
    channel_y=null      : float64           # um
    channel_z=null      : float64           # um
    brain_region=null   : int32             # id in the Allen atlas
    channel_json=null   : json              # what else the source says
    channel_vanished=null : char(36)        # run that no longer found it at its source
    """


@schema
class BrainRegion(dj.Manual):
    definition = """
    # one region of the brain atlas
    brain_region        : int32             # id in the Allen atlas, as in Channel
    ---
    acronym             : varchar(64)       # for example CA1
    region_name=''      : varchar(255)      # for example Field CA1
    parent_region=null  : int32             # the region that it is a part of
    region_description='' : varchar(8000)   # in words
    region_json=null    : json              # what else the source says
    region_vanished=null : char(36)         # run that no longer found it at its source
    """
