"""Studies: what ``python evaluate.py study=NAME`` makes of runs and stamps.

A study is a module (or a package) here and a file ``conf/study/NAME.yaml``. It has one function::

    def sections(config, tracking, console) -> Sequence[Section] | Report

`config` is the whole configuration as composed from ``conf/evaluate.yaml``, in it ``study``, the
study's own settings, and ``report``, the folder of the report, where it may leave files of its own
below ``data/``. `tracking` is where the runs are, and `console` where progress and tables go. What
it refuses it raises as `rb.errors.UserError`. Pictures and tables come back as sections of the
page; a study that puts runs side by side, such as `rb.studies.comparison`, returns a
`rb.report.sections.Report` with their results besides.

`rb.studies.run` does the rest for all of them: the page, the files of its pictures and tables, and
the run in MLflow that keeps them.
"""
