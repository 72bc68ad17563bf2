"""MMDetection's adapter. Importing it makes sure that mmcv has the operators that the detectors need."""

import logging

from mmengine.logging import MMLogger

from adapters.mmdet.operators import provide_operators

provide_operators()
# MMEngine logs every initialised tensor at level INFO.
MMLogger.get_current_instance().setLevel(logging.WARNING)
