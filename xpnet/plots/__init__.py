"""Pictures of data, networks and trainings, on matplotlib's axes.

Each function draws on ``ax``, or on a new figure if there is none, and returns what it has drawn:
matplotlib's artist or scikit-learn's display. No function calls ``show``. A new figure is one of
pyplot's in a notebook and wherever pyplot has been imported, else one that needs no screen.
"""

from xpnet.plots.animation import animate as animate
from xpnet.plots.architecture import network as network
from xpnet.plots.boundary import decision_boundary as decision_boundary
from xpnet.plots.images import confusion as confusion
from xpnet.plots.images import mistakes as mistakes
from xpnet.plots.images import weights as weights
from xpnet.plots.lines import curve as curve
from xpnet.plots.lines import gradient_flow as gradient_flow
from xpnet.plots.lines import loss_curve as loss_curve
from xpnet.plots.surfaces import surface as surface
