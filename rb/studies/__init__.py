"""Studies: what is made of runs and stamps beyond their comparison.

A study is a module of this package and a file ``conf/study/NAME.yaml``; ``python evaluate.py
study=NAME`` runs it. The module has one function::

    def sections(config, tracking, console) -> list[Section]

with the whole configuration, and pictures and tables come back as sections of a report.
`rb.studies.run` writes the page, keeps the files and tracks the run.
"""
