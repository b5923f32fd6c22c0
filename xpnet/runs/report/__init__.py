"""The report of a run: one page that needs no network, and the same as pictures.

All of it is made from the run folder and the data, so that `xpnet report` can make it again.
"""

from xpnet.plots.drawing import require_matplotlib as require_matplotlib
from xpnet.runs.report.page import write_report as write_report
from xpnet.runs.report.pictures import write_pictures as write_pictures
