"""Subjects: the animals, and what was done for them."""

import datajoint as dj

from labweave.schemas.deletion import LeavesMasters
from labweave.schemas.lab import Lab, LabMember, Project

schema = dj.Schema()


@schema
class Species(dj.Manual):
    definition = """
    # one species
    species             : varchar(255)      # Latin name, for example Mus musculus, or the name its source uses
    ---
    common_name=''      : varchar(64)       # for example mouse
    """


@schema
class Strain(dj.Manual):
    definition = """
    # one strain
    strain              : varchar(255)      # for example C57BL/6J
    ---
    strain_description='' : varchar(1023)   # in words
    """


@schema
class Line(dj.Manual):
    definition = """
    # one breeding line
    line                : varchar(255)      # name
    ---
    -> [nullable] Species
    -> [nullable] Strain
    line_description='' : varchar(1023)     # in words
    line_active=1       : bool              # still bred
    line_json=null      : json              # what else the source says
    """


@schema
class Breeder(dj.Manual):
    definition = """
    # one place that animals come from
    breeder             : varchar(255)      # name
    ---
    breeder_description='' : varchar(1023)  # in words
    """


@schema
class Subject(LeavesMasters, dj.Manual):
    definition = """
    # one animal
    -> Lab
    subject             : varchar(64)       # nickname; a rename is an update of this key
    ---
    subject_uuid        : char(36)          # tells that it is the same animal after a rename
    sex='U'             : enum('M', 'F', 'U') # male, female, unknown
    birth_date=null     : date              # day of birth
    death_date=null     : date              # day of death
    litter=''           : varchar(255)      # name of the litter it was born in
    -> [nullable] Species
    -> [nullable] Strain
    -> [nullable] Line
    -> [nullable] Breeder
    -> [nullable] LabMember.proj(responsible_user='user')
    subject_description='' : varchar(2000)  # in words
    subject_json=null   : json              # what else the source says
    subject_vanished=null : char(36)        # run that no longer found it at its source
    unique index (subject_uuid)
    """


@schema
class SubjectProject(dj.Manual):
    definition = """
    # one project that a subject is used in
    -> Subject
    -> Project
    """


@schema
class SubjectGenotype(dj.Manual):
    definition = """
    # one allele or genotype test of a subject
    -> Subject
    allele              : varchar(255)      # allele or sequence tested
    ---
    zygosity=''         : varchar(64)       # for example Heterozygous, Absent
    test_result=''      : varchar(64)       # for example Present
    """


@schema
class Weighing(dj.Manual):
    definition = """
    # one weighing
    weighing_uuid       : char(36)          # id at the source
    ---
    -> Subject
    weighing_time=null  : datetime(6)       # by the source's clock
    weight              : float64           # g
    -> [nullable] LabMember
    weighing_json=null  : json              # what else the source says
    weighing_vanished=null : char(36)       # run that no longer found it at its source
    index (lab, subject, weighing_time)
    """


@schema
class WaterAdministration(dj.Manual):
    definition = """
    # one time that water was given
    administration_uuid : char(36)          # id at the source
    ---
    -> Subject
    administration_time=null : datetime(6)  # by the source's clock
    volume=null         : float64           # ml
    water_type=''       : varchar(255)      # for example Water, Hydrogel
    adlib=0             : bool              # free access
    given_in_eid=null   : char(36)          # the session it was given in, if any
    -> [nullable] LabMember
    administration_json=null : json         # what else the source says
    administration_vanished=null : char(36) # run that no longer found it at its source
    index (lab, subject, administration_time)
    """


@schema
class WaterRestriction(dj.Manual):
    definition = """
    # one period of water restriction
    restriction_uuid    : char(36)          # id at the source
    ---
    -> Subject
    restriction_start   : datetime(6)       # by the source's clock
    restriction_end=null : datetime(6)      # null while it lasts
    reference_weight=null : float64         # g
    restriction_json=null : json            # what else the source says
    restriction_vanished=null : char(36)    # run that no longer found it at its source
    """


@schema
class Surgery(dj.Manual):
    definition = """
    # one surgery
    surgery_uuid        : char(36)          # id at the source
    ---
    -> Subject
    surgery_start=null  : datetime(6)       # by the source's clock
    surgery_end=null    : datetime(6)       # by the source's clock
    surgery_name=''     : varchar(255)      # short
    surgery_outcome=''  : varchar(64)       # for example acute, recovery
    surgery_narrative='' : varchar(8000)    # in words
    surgery_procedures=null : json          # list of names
    surgery_json=null   : json              # what else the source says
    surgery_vanished=null : char(36)        # run that no longer found it at its source
    """


@schema
class SubjectNote(dj.Manual):
    definition = """
    # one note on a subject
    note_uuid           : char(36)          # id at the source
    ---
    -> Subject
    note_time=null      : datetime(6)       # by the source's clock
    note_text=''        : varchar(8000)     # what it says
    -> [nullable] LabMember
    note_json=null      : json              # what else the source says
    note_vanished=null  : char(36)          # run that no longer found it at its source
    """
