"""Detectron2's adapter. Importing it silences what Detectron2 would say beside the adapter's own log."""

import logging
import warnings

# Its trainer prints every exception's traceback; the command line does that, and not for a user's mistake.
logging.getLogger("detectron2.engine.train_loop").setLevel(logging.CRITICAL)
# Torch 2.11 warns because Detectron2 asks whether torch.fx is tracing, and because it draws anchors by torch.meshgrid.
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release", category=UserWarning)
