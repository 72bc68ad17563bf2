"""From records and the training order to the items of a training; the same for every framework."""
