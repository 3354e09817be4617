"""The lab: who works there, where, on what."""

import datajoint as dj

from labweave.schemas.deletion import LeavesMasters

schema = dj.Schema()


@schema
class Lab(LeavesMasters, dj.Manual):
    definition = """
    # one lab
    lab                 : varchar(64)       # short name, as in ALF paths
    ---
    institution=''      : varchar(255)      # university or institute
    address=''          : varchar(255)      # postal address
    time_zone='UTC'     : varchar(64)       # IANA name, for times that its tools write without one
    lab_uuid=null       : char(36)          # its id at the source
    lab_json=null       : json              # what else the source says
    lab_vanished=null   : char(36)          # run that no longer found it at its source
    """


@schema
class LabMember(dj.Manual):
    definition = """
    # one person
    user                : varchar(150)      # login name; a rename is an update of this key
    ---
    user_uuid=null      : char(36)          # tells that it is the same person after a rename
    full_name=''        : varchar(255)      # as the person writes it
    email=''            : varchar(255)      # address for mail
    member_active=1     : bool              # still works here
    is_stock_manager=0  : bool              # looks after the animals in stock
    member_json=null    : json              # what else the source says
    member_vanished=null : char(36)         # run that no longer found it at its source
    unique index (user_uuid)
    """


@schema
class LabMembership(dj.Manual):
    definition = """
    # one person's time in one lab
    -> Lab
    -> LabMember
    ---
    role=''             : varchar(64)       # for example postdoc
    start_date=null     : date              # first day
    end_date=null       : date              # last day
    """


@schema
class Delegation(dj.Manual):
    definition = """
    # one person who may act for another
    -> LabMember
    -> LabMember.proj(delegate='user')
    """


@schema
class Location(dj.Manual):
    definition = """
    # one rig or room
    -> Lab
    location            : varchar(255)      # short name
    ---
    location_uuid=null  : char(36)          # its id at the source
    location_json=null  : json              # what else the source says
    location_vanished=null : char(36)       # run that no longer found it at its source
    """


@schema
class Project(dj.Manual):
    definition = """
    # one project
    project             : varchar(255)      # short name
    ---
    project_description='' : varchar(2000)  # what it is about
    project_json=null   : json              # what else the source says
    project_vanished=null : char(36)        # run that no longer found it at its source
    """


@schema
class ProjectMember(dj.Manual):
    definition = """
    # one person's part in one project
    -> Project
    -> LabMember
    """
