"""Labels that are wrong: finding them, looking at them, and training without them.

==============  ==================================================================
`confident`     which labels a network that has not seen them contradicts
`suspects`      the table of all candidates in order of suspicion
`review`        a page in the browser on which inspectors look at them
`journal`       what each inspector said, written down at once
`merge`         one verdict a candidate out of those of several inspectors
`relabelled`    a stamp set with the labels of such a table (``data.labels=…``)
==============  ==================================================================

The paper's appendix D is what this is for: of 300 bogus candidates of DES that were
inspected, about 3 % had to be called real, and inspectors disagreed about 10 %.
"""
